"""Temporary files for images and maps that are too large for the memory.

The files have no name: they are removed from their folder as soon as they are open, and the disk space is free when
nothing uses them any more. Therefore, nothing is left behind if the process is interrupted or killed.
"""

from __future__ import annotations

import errno
import math
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from pcace._memory import available
from pipeline.artifacts import Workspace
from pipeline.artifacts.workspace import ArrayByPieces
from pipeline.errors import StorageError
from pipeline.networks.inputs import on_device

MOST_IN_MEMORY = 2**30  # bytes of the images, and of the maps of a layer, that are kept in memory
SHARE = 4  # neither of them takes more than this part, 1 / SHARE, of the memory that is available


def is_large(n_bytes: int) -> bool:
    """Return whether something of this size is written to a temporary file."""
    left = available()
    return n_bytes > (MOST_IN_MEMORY if left is None else min(MOST_IN_MEMORY, left // SHARE))


class TemporaryWorkspace(Workspace):
    """Storage of maps in memory, or in a temporary file if they are large.

    Parameters
    ----------
    n_layers : int, default=1
        Number of layers of similar size whose maps are needed at the same time.
    """

    def __init__(self, n_layers: int = 1) -> None:
        super().__init__()
        self._n_layers = n_layers

    def empty(self, file_name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return a writable array, which is a memory map if it is large."""
        return self.by_pieces(file_name, shape, dtype).array

    def by_pieces(self, file_name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> ArrayByPieces:
        """Return an array as `empty` does, with a method that writes pieces of it."""
        if not is_large(np.dtype(dtype).itemsize * math.prod(shape) * self._n_layers):
            return ArrayByPieces(super().empty(file_name, shape, dtype), None)
        with _room_for("the maps of the layer"), tempfile.TemporaryDirectory(prefix="pcace-") as folder:
            return Workspace(Path(folder)).by_pieces(file_name, shape, dtype)  # the open file keeps its contents


class StoredTensors:
    """Tensors of shape (n_images, ...) in a temporary file, to which more images can be appended.

    Parameters
    ----------
    shape : sequence of int
        Shape of one image.
    dtype : torch.dtype
        Type of the values.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.shape, self.dtype = tuple(shape), dtype
        with _room_for("the images"):
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="pcace-")  # noqa: SIM115 (it outlives this function)
        weakref.finalize(self, self._file.close)
        self._n_images = 0
        self._device: torch.device | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return self._n_images

    def append(self, images: torch.Tensor) -> None:
        """Write images of shape (n_images, ...) behind the others."""
        with _room_for("the images"):
            self._file.seek(0, 2)
            self._file.write(images.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            self._file.flush()
        self._n_images += len(images)

    def on(self, device: torch.device | None) -> Self:
        """Return the same images, which are read to a device; None: to the CPU."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _device=device, _origin=self)  # whose file is open as long as it exists
        return other

    def read(self, images: slice) -> torch.Tensor:
        """Return the given images, (n_images, ...)."""
        start, stop, step = images.indices(len(self))
        if step != 1:
            raise ValueError(f"images must be consecutive; got a step of {step}.")
        n_images, n_bytes = max(stop - start, 0), math.prod(self.shape) * self.dtype.itemsize  # bytes of an image
        values = torch.empty((n_images, *self.shape), dtype=self.dtype, device="cpu")
        if n_images:
            self._file.seek(start * n_bytes)
            self._file.readinto(values.reshape(-1).view(torch.uint8).numpy())  # type: ignore[attr-defined]
        return values if self._device is None else on_device(values, self._device)


@contextmanager
def _room_for(what: str) -> Iterator[None]:
    """Convert the error of a full disk inside the context to `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageError(
            f"the disk must have room for {what}, too large for the memory; got a full disk "
            f"({tempfile.gettempdir()}). Free some space, or set the environment variable TMPDIR to a folder on "
            "another disk."
        ) from error
