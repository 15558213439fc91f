"""The artifact store: what has been computed once is found again by its key."""

from pipeline.store.description import DESCRIPTION
from pipeline.store.keys import ArtifactKey, artifact_key
from pipeline.store.store import Store, storage_errors

__all__ = ["DESCRIPTION", "ArtifactKey", "Store", "artifact_key", "storage_errors"]
