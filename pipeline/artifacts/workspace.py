"""Storage for results that are too large for memory, or that are files."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray


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

    def empty(self, file_name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return a writable array: a memory map of a file in the folder, or an array in memory.

        The disk space of the file is allocated immediately. Without this, writing to the mapped file on a full disk
        would end the process with SIGBUS; now an ``OSError`` (ENOSPC) is raised instead.

        Parameters
        ----------
        file_name : str
            Name of the ``.npy`` file.
        shape : tuple of int
            Shape of the array.
        dtype : dtype, default=float32
            Type of the values.
        """
        if self._folder is None:
            return np.empty(shape, dtype)
        array: NDArray[Any] = open_memmap(self._folder / file_name, mode="w+", dtype=dtype, shape=shape)
        with (self._folder / file_name).open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        return array

    def by_pieces(self, file_name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> ArrayByPieces:
        """Return an array as `empty` does, with a method that writes pieces of it."""
        array = self.empty(file_name, shape, dtype)
        return ArrayByPieces(array, None if self._folder is None else (self._folder / file_name).open("r+b"))


class ArrayByPieces:
    """An array of which contiguous pieces are written.

    If it is memory-mapped, they are written to the file. To write to the mapping reads every page first, from the disk
    if the file does not fit into the memory that the system has for files.

    Parameters
    ----------
    array : ndarray
        The array.
    file : binary file or None
        The file that it is mapped from, open for writing; None if it is in memory.
    """

    def __init__(self, array: NDArray[Any], file: BinaryIO | None) -> None:
        self.array, self._file = array, file
        if file is not None:
            weakref.finalize(self, file.close)

    @property
    def is_mapped(self) -> bool:
        """Whether the array is mapped from a file."""
        return self._file is not None

    def write(self, row: int, start: int, values: NDArray[Any]) -> None:
        """Set ``array[row, start : start + len(values)]`` to `values`, which have its type."""
        if self._file is None:
            self.array[row, start : start + len(values)] = values
            return
        assert isinstance(self.array, np.memmap)
        row_bytes, item_bytes = self.array.strides[:2]
        self._file.seek(self.array.offset + row * row_bytes + start * item_bytes)
        self._file.write(np.ascontiguousarray(values).data)

    def flush(self) -> None:
        """Make what has been written visible in `array`."""
        if self._file is not None:
            self._file.flush()


def release(array: NDArray[Any]) -> None:
    """Take the pages of a memory-mapped array out of this process's memory; what was written to them is kept.

    Otherwise a process that reads or writes large maps seems to need as much memory as they have.
    """
    if isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)
