"""What all artifacts have in common, and how they write arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray


class Artifact(ABC):
    """What a stage makes: saved into a folder of plain files, and loaded from it.

    Attributes
    ----------
    name : str
        Name of the artifact: stages that build on it take it as the argument of this name.
    """

    name: ClassVar[str]

    @abstractmethod
    def save(self, folder: Path) -> Self:
        """Write the artifact into `folder` and return it."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Return the artifact that was saved into `folder`."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What it holds, in a few words for the console."""


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write one ``.npy`` file.

    NumPy writes to a buffer, not to the file: on a full disk it would say that bytes are missing, but not why (no
    errno).
    """
    buffer = BytesIO()
    np.save(buffer, np.ascontiguousarray(array))
    path.write_bytes(buffer.getbuffer())
