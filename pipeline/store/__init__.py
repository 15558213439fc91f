"""The artifact store: keeps the results of the stages, and finds them again by their keys."""

from pipeline.store.keys import ArtifactKey, artifact_key
from pipeline.store.locks import process_lock
from pipeline.store.store import Store, storage_errors

__all__ = ["ArtifactKey", "Store", "artifact_key", "process_lock", "storage_errors"]
