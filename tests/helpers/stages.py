"""Single stages of the pipeline, run without the runner and its store."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts import Activations, ImageSet, Workspace
from pipeline.artifacts.base import DESCRIPTION
from pipeline.settings import Settings
from pipeline.stages import activate, download


def _no_progress(done: int, total: int) -> None:
    """Report nothing."""


def fetch(settings: Settings, folder: Path) -> ImageSet:
    """Run the stage `download` alone.

    Parameters
    ----------
    settings : Settings
        Settings; only those of the data are read.
    folder : Path
        Folder for the images, which is made and must not exist.
    """
    folder.mkdir()
    return download.STAGE.compute(settings, {}, Workspace(folder), _no_progress)


def activations(settings: Settings, images: ImageSet, folder: Path) -> Activations:
    """Run the stage `activate` alone.

    Parameters
    ----------
    settings : Settings
        Resolved settings.
    images : ImageSet
        Images that `fetch` has returned.
    folder : Path
        Folder for the activation maps, which is made and must not exist.
    """
    folder.mkdir()
    return activate.STAGE.compute(settings, {"images": images}, Workspace(folder), _no_progress)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of an artifact, without the description that the store adds."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != DESCRIPTION}
