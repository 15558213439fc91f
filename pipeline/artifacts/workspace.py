"""Where a stage puts what it computes while it computes it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray


class Workspace:
    """Room for results that are too large for memory, or that are files by nature.

    Parameters
    ----------
    folder : Path or None
        The folder that the artifact will be saved into. None: everything stays in memory, and stages that make files
        (images, figures) cannot run.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """The folder.

        Raises
        ------
        ValueError
            If the workspace is in memory.
        """
        if self._folder is None:
            raise ValueError("the workspace must have a folder for a stage that makes files; got one in memory.")
        return self._folder

    def empty(self, file_name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return a writable float32 array: a memory map of a file in the folder, or an array in memory.

        The file's disk space is reserved at once: a write to a sparse file on a full disk would end the process with
        SIGBUS, while reserving the space raises an ordinary ``OSError`` (ENOSPC).

        Parameters
        ----------
        file_name : str
            Name of the ``.npy`` file.
        shape : tuple of int
            Of the array.
        """
        if self._folder is None:
            return np.empty(shape, dtype=np.float32)
        array = open_memmap(self._folder / file_name, mode="w+", dtype=np.float32, shape=shape)
        with (self._folder / file_name).open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        return array
