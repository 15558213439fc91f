"""Storage for results that are too large for memory, or that are files."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray


class Workspace:
    """Storage for a stage: a folder, or memory.

    Parameters
    ----------
    folder : Path or None
        The folder that the artifact will be saved into. If None, large results are kept in memory, and stages that
        write files (`download`, `visualize`) cannot run.
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
            raise ValueError(
                "the workspace must have a folder for a stage that writes files; got a workspace in memory. "
                "Use Workspace(folder)."
            )
        return self._folder

    def empty(self, file_name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return a writable float32 array: a memory map of a file in the folder, or an array in memory.

        The disk space of the file is allocated immediately. Without this, writing to the mapped file on a full disk
        would end the process with SIGBUS; now an ``OSError`` (ENOSPC) is raised instead.

        Parameters
        ----------
        file_name : str
            Name of the ``.npy`` file.
        shape : tuple of int
            Shape of the array.
        """
        if self._folder is None:
            return np.empty(shape, dtype=np.float32)
        array = open_memmap(self._folder / file_name, mode="w+", dtype=np.float32, shape=shape)
        with (self._folder / file_name).open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        return array


def release(array: NDArray[np.float32]) -> None:
    """Take the pages of a memory-mapped array out of this process's memory; what was written to them is kept.

    Otherwise a process that writes large maps seems to need as much memory as they have.
    """
    if isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)
