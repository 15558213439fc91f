"""The base class of all artifacts, and functions for their files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.workspace import Workspace

DESCRIPTION = "artifact.json"  # file in which the store describes an artifact, see `pipeline.store.description`
MOST_IN_MEMORY = 2**26  # bytes of an array that is read into the memory when it is loaded


class Artifact(ABC):
    """The result of a stage. It can be saved into a folder of plain files, and loaded from it.

    Attributes
    ----------
    name : str
        Name of the artifact. Stages that use it take it as an argument of this name.
    """

    name: ClassVar[str]

    @abstractmethod
    def save(self, folder: Path) -> Self:
        """Write the artifact into an existing folder, and return it."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Return the artifact that was saved into the folder."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Summary of the contents in a few words, for the console."""


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array to a ``.npy`` file.

    An array that is mapped from this file, because it may be larger than the memory, is there already.

    NumPy writes to an object that is no file, piece by piece. If it wrote to the file itself and the disk were full,
    its error would not contain the reason (errno).
    """
    if isinstance(array, np.memmap):
        if Path(str(array.filename)) != path.absolute():
            copied = Workspace(path.parent).empty(path.name, array.shape, array.dtype)
            for target, source in zip(copied, array, strict=True):
                target[...] = source
        return
    with path.open("wb") as file:
        np.save(SimpleNamespace(write=file.write), np.ascontiguousarray(array))


def load_array(path: Path) -> NDArray[Any]:
    """Return the array in a ``.npy`` file: mapped read-only if it is large, otherwise in memory."""
    array: NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > MOST_IN_MEMORY else None)
    return array


def own_files(folder: Path) -> list[str]:
    """Return the names of the files of the artifact in `folder`, relative to it, in alphabetical order.

    Only files that the description of the artifact lists belong to it; other files and links in the folder do not. As
    long as there is no description, because the artifact is being computed, all files belong to it.
    """
    try:
        return sorted(json.loads((folder / DESCRIPTION).read_bytes())["files"])
    except FileNotFoundError:
        found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        return sorted(path.relative_to(folder).as_posix() for path in found)
