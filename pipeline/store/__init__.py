"""The artifact store: keeps the results of the stages, and finds them again by their keys."""

from pipeline.store.description import DESCRIPTION
from pipeline.store.keys import ArtifactKey, artifact_key
from pipeline.store.store import Store, storage_errors

__all__ = ["DESCRIPTION", "ArtifactKey", "Store", "artifact_key", "storage_errors"]
