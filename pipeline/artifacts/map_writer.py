"""Writing the maps of a layer, which come image by image, into a file that is ordered by channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Float64Array, FloatArray
from pipeline.artifacts import Activations, Workspace
from pipeline.artifacts.workspace import ArrayByPieces
from pipeline.errors import NetworkError

MapType = Literal["float32", "float16"]

# Bytes of maps that are collected before they are written, for all layers of a pass together. The maps of each channel
# are one piece of the file. Small pieces are slow where the file does not fit into the memory that the system has for
# files: their first and last pages are then read from the disk again for every batch of images.
COLLECTED = 2**27


class WritingThread:
    """Writes maps in another thread, while the network runs; at most `COLLECTED` bytes wait to be written.

    It is a context manager: what waits at its end, after an error, is not written.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[tuple[Future[None], int]] = deque()

    def __enter__(self) -> Self:
        """Return the thread."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Wait for what is being written."""
        self._thread.shutdown(cancel_futures=True)

    def submit(self, write: Callable[[], None], n_bytes: int) -> None:
        """Call `write`, which writes so many bytes, after all others; raise the error of an earlier one."""
        self.make_room(n_bytes)
        self._waiting.append((self._thread.submit(write), n_bytes))

    def make_room(self, n_bytes: int) -> None:
        """Wait until so many bytes more may wait to be written."""
        while self._waiting and sum(size for _, size in self._waiting) + n_bytes > COLLECTED:
            self._waiting.popleft()[0].result()

    def finish(self) -> None:
        """Wait until everything is written."""
        while self._waiting:
            self._waiting.popleft()[0].result()


class MapWriter:
    """Collects the maps of several batches of images, and writes them channel by channel.

    Parameters
    ----------
    workspace : Workspace
        Storage of the maps. Those in memory are written at once.
    layer : str
        Name of the layer, for messages.
    n_images : int
        Number of all images.
    dtype : {"float32", "float16"}
        Type in which the maps are stored.
    n_bytes : int
        Bytes of maps that are collected at most, unless a batch has more.
    thread : WritingThread
        Writes the maps of several layers to their files.
    """

    def __init__(
        self, workspace: Workspace, layer: str, n_images: int, dtype: MapType, n_bytes: int, thread: WritingThread
    ) -> None:
        self._workspace, self._layer, self._n_images, self._n_bytes = workspace, layer, n_images, n_bytes
        self._dtype, self._thread = np.dtype(dtype), thread
        self._maps: ArrayByPieces | None = None
        self._collected: list[NDArray[Any]] = []
        self._n_collected = self._n_written = 0
        self._rounding: _Rounding | None = None

    def append(self, maps: FloatArray) -> None:
        """Add the maps of the next images, (n_channels, n_images, height, width), which must not change afterwards.

        Raises
        ------
        NetworkError
            If a value is too large for the type in which maps are stored.
        """
        if self._maps is None:
            n_channels, _, height, width = maps.shape
            shape = (n_channels, self._n_images, height, width)
            self._maps = self._workspace.by_pieces(Activations.MAPS, shape, self._dtype)
        if self._dtype == np.float16:
            self._check_range(maps)
        converted = np.ascontiguousarray(maps, dtype=self._dtype)
        if self._dtype == np.float16:
            if self._rounding is None:
                self._rounding = _Rounding(maps)
            self._rounding.add(maps, converted)
        self._collected.append(converted)
        self._n_collected += converted.nbytes
        if self._n_collected + converted.nbytes > self._n_bytes or not self._maps.is_mapped:
            self._write()

    def finish(self) -> tuple[NDArray[Any], Float64Array | None]:
        """Return the maps, and the rounding error of each channel if they are stored in half precision."""
        assert self._maps is not None  # there is at least one image
        self._write()
        self._thread.finish()
        return self._maps.array, None if self._rounding is None else self._rounding.by_channel()

    def _write(self) -> None:
        if not self._collected or self._maps is None:
            return
        write = partial(_write_pieces, self._maps, self._n_written, self._collected)
        if self._maps.is_mapped:
            self._thread.submit(write, self._n_collected)
        else:
            write()
        self._n_written += sum(each.shape[1] for each in self._collected)
        self._collected, self._n_collected = [], 0

    def _check_range(self, maps: FloatArray) -> None:
        largest, limit = float(np.abs(maps).max()), float(np.finfo(self._dtype).max)
        if largest > limit:
            raise NetworkError(
                f"activate.dtype must be float32 for activations above {limit:.0f} in magnitude; got float16 with "
                f"{largest:.6g} (layer '{self._layer}'). Set activate.dtype=float32."
            )


def _write_pieces(maps: ArrayByPieces, start: int, collected: list[NDArray[Any]]) -> None:
    """Write the maps of consecutive images, of which the first has the number `start`."""
    for channel in range(len(maps.array)):
        pieces = [each[channel] for each in collected]
        maps.write(channel, start, pieces[0] if len(pieces) == 1 else np.concatenate(pieces))
    maps.flush()


class _Rounding:
    """Measures the error of rounding as a share of each pixel's standard deviation, image by image."""

    def __init__(self, maps: FloatArray) -> None:
        self._origin = np.asarray(maps[:, :1], dtype=np.float64)  # so that the squares lose no digits
        self._n_images = 0
        self._sum, self._squares, self._errors = (np.zeros((len(maps), *maps.shape[2:])) for _ in range(3))

    def add(self, maps: FloatArray, rounded: NDArray[np.float16]) -> None:
        """Add the maps of some images, (n_channels, n_images, height, width), and what is stored of them."""
        exact = np.asarray(maps, dtype=np.float64)
        deviations = exact - self._origin
        self._n_images += maps.shape[1]
        self._sum += deviations.sum(axis=1)
        self._squares += np.square(deviations).sum(axis=1)
        self._errors += np.square(rounded - exact).sum(axis=1)

    def by_channel(self) -> Float64Array:
        """Return the root mean square error of each channel's standardised pixels, (n_channels,)."""
        variances = self._squares - self._sum**2 / self._n_images
        varies = variances > 0
        shares = np.divide(self._errors, variances, out=np.zeros_like(variances), where=varies)
        errors: Float64Array = np.sqrt(shares.sum(axis=(1, 2)) / np.maximum(varies.sum(axis=(1, 2)), 1))
        return errors
