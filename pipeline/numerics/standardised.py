"""The standardised maps of one channel, computed in blocks, so that they need never be in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy import linalg

from pipeline.arrays import Float64Array, FloatArray
from pipeline.errors import InputError
from pipeline.numerics.compiled import compiled

# The sizes of the blocks depend on the shape of the maps only, so that the result has the same bits on every machine.
PIXELS = 2048  # in a block of pixels
MOST_IN_ONE_BLOCK = 4096  # images, up to which Z is not divided into blocks of images
VALUES = 2**22  # about those in a block of images


def is_wide(n_images: int, n_pixels: int) -> bool:
    """Return whether Z is computed in blocks of pixels: it has few images, and at least as many pixels."""
    return n_images <= min(n_pixels, MOST_IN_ONE_BLOCK)


def block_shape(n_images: int, n_pixels: int) -> tuple[int, int]:
    """Return the largest number of images and of pixels in a block of Z."""
    if is_wide(n_images, n_pixels):
        return n_images, min(n_pixels, PIXELS)
    if n_images <= MOST_IN_ONE_BLOCK:
        return n_images, n_pixels
    return min(n_images, max(64, VALUES // n_pixels)), n_pixels


class Standardised:
    """The standardised matrix Z of one channel, of shape (n_images, n_pixels).

    Each pixel has mean 0 and standard deviation 1 (ddof 0) over the images. A pixel that does not vary by more than
    rounding (scikit-learn's bound) is 0. Z is computed in blocks of pixels or of images (see `is_wide`), which are
    either kept in memory or computed again whenever they are needed.

    Parameters
    ----------
    channel : ndarray of shape (n_images, n_pixels)
        The maps.
    number : int
        Number of the channel, for messages.
    keep : bool
        Whether the blocks are kept.

    Attributes
    ----------
    shape : tuple of 2 ints
        Shape of Z.
    is_wide : bool
        Whether the blocks are blocks of pixels.
    is_divided : bool
        Whether there are several blocks of images.

    Raises
    ------
    InputError
        By all methods, if a value is not finite.
    """

    def __init__(self, channel: FloatArray, number: int, keep: bool) -> None:
        self._channel, self._number, self._keep = channel, number, keep
        self.shape: tuple[int, int] = channel.shape[0], channel.shape[1]
        self.is_wide = is_wide(*self.shape)
        self.is_divided = block_shape(*self.shape)[0] < self.shape[0]
        self._blocks: list[Float64Array] = []
        self._units: tuple[Float64Array, Float64Array] | None = None

    def blocks(self) -> Iterator[Float64Array]:
        """Yield the blocks of Z: pixels from left to right, or images from first to last."""
        if self._blocks:
            yield from self._blocks
            return
        kept = []
        for raw in self._raw():
            mean, factor = self._units_of(lambda raw=raw: [raw]) if self.is_wide else self._units_of_all()  # type: ignore[misc]
            block = np.empty(raw.shape)
            _standardise(raw, mean, factor, block)
            if self._keep:
                kept.append(block)
            yield block
        self._blocks = kept

    def product(self) -> Float64Array:
        """Return Z Z' if Z is wide, otherwise Z' Z."""
        products = (block @ block.T if self.is_wide else block.T @ block for block in self.blocks())
        total = next(products)
        for product in products:
            total += product
        return total

    def times(self, axes: Float64Array) -> Float64Array:
        """Return Z times `axes`, (n_pixels, n_axes), where Z is not wide."""
        return np.concatenate([block @ axes for block in self.blocks()])

    def product_times(self, axes: Float64Array) -> Float64Array:
        """Return Z' Z times `axes`, (n_pixels, n_axes), where Z is not wide."""
        total = np.zeros(axes.shape)
        for block in self.blocks():
            total += block.T @ (block @ axes)
        return total

    def sum_of_squares(self) -> float:
        """Return the sum of the squares of Z, where Z is not wide."""
        return float(np.count_nonzero(self._units_of_all()[1]) * len(self._channel))

    def whole(self) -> Float64Array:
        """Return Z."""
        return np.concatenate(list(self.blocks()), axis=1 if self.is_wide else 0)

    def triangular(self) -> Float64Array:
        """Return the triangular factor of Z, (n_pixels, n_pixels), where Z has more images than pixels.

        It has the singular values and the right singular vectors of Z, without the loss of digits of Z' Z. It is
        computed by QR decompositions of one block of images after another.
        """
        found = np.empty((0, self._channel.shape[1]))
        for block in self.blocks():
            (found,) = linalg.qr(np.concatenate([found, block]), mode="r", check_finite=False)
            found = found[: block.shape[1]]
        return found

    def _raw(self) -> Iterator[FloatArray]:
        """Yield the blocks of the maps."""
        (n_images, n_pixels), (most_images, most_pixels) = self.shape, block_shape(*self.shape)
        dtype = np.float32 if self._channel.dtype == np.float16 else None  # numba has no float16
        for start in range(0, n_images, most_images):
            for left in range(0, n_pixels, most_pixels):
                part = self._channel[start : start + most_images, left : left + most_pixels]
                yield np.require(part, dtype=dtype, requirements=["C", "W"])

    def _units_of_all(self) -> tuple[Float64Array, Float64Array]:
        """Return the mean and the factor of every pixel; they are computed once."""
        if self._units is None:
            self._units = self._units_of(self._raw)
        return self._units

    def _units_of(self, raw: Callable[[], Iterable[FloatArray]]) -> tuple[Float64Array, Float64Array]:
        """Return the mean of each pixel, and the factor that gives it standard deviation 1; 0 if it does not vary.

        The sums are computed image by image, so that they do not depend on the division into blocks of images.
        """
        n_images, eps = len(self._channel), np.finfo(np.float64).eps
        mean = self._sum(raw, lambda block, total: _add(block, total)) / n_images
        variance = self._sum(raw, lambda block, total: _add_squares(block, mean, total)) / n_images
        if not np.isfinite(variance).all():
            raise InputError(
                f"activations must be finite; got NaN or infinity (channel {self._number}). Check the weights."
            )
        varies = variance > n_images * eps * variance + (n_images * mean * eps) ** 2
        return mean, np.where(varies, 1.0 / np.sqrt(np.where(varies, variance, 1.0)), 0.0)

    @staticmethod
    def _sum(raw: Callable[[], Iterable[FloatArray]], add: Callable[[FloatArray, Float64Array], None]) -> Float64Array:
        """Return what `add` adds to an array of zeros for each block."""
        total: Float64Array | None = None
        for block in raw():
            if total is None:
                total = np.zeros(block.shape[1])
            add(block, total)
        assert total is not None  # there is at least one image
        return total


@compiled
def _add(raw, total):
    """Add the rows of `raw` to `total`, one after the other."""
    n, d = raw.shape
    for i in range(n):
        for j in range(d):
            total[j] += raw[i, j]


@compiled
def _add_squares(raw, mean, total):
    """Add the squared deviations of the rows of `raw` from `mean` to `total`, one after the other."""
    n, d = raw.shape
    for i in range(n):
        for j in range(d):
            deviation = raw[i, j] - mean[j]
            total[j] += deviation * deviation


@compiled
def _standardise(raw, mean, factor, out):
    """Fill `out` with the deviations of the rows of `raw` from `mean`, multiplied by `factor`."""
    n, d = raw.shape
    for i in range(n):
        for j in range(d):
            out[i, j] = (raw[i, j] - mean[j]) * factor[j]
