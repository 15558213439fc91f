"""The file that the weights of a network are in."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import NetworkError
from pipeline.resources import shipped_weights
from pipeline.settings import ModelSettings

RANDOM = "random"  # value of model.weights: as initialised, with a seed
SHIPPED = "shipped"  # value of model.weights: the file of this package


def checkpoint_path(model: ModelSettings) -> Path | None:
    """Return the path of the file of weights; None for random and published weights."""
    if model.checkpoint is not None:
        return Path(model.checkpoint).expanduser()
    return shipped_weights(model.name) if model.weights == SHIPPED else None


def require_checkpoint(path: Path) -> Path:
    """Return the path; raise `NetworkError` if it is not a file."""
    if not path.is_file():
        raise NetworkError(f"model.checkpoint must be an existing file; got {path}. Give the path of the weights.")
    return path
