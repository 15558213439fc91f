"""Standardise every channel of a layer and project it onto its leading principal components.

For the standardised matrix Z (images x pixels) of a channel, the leading eigenvectors of the smaller of Z Z' and Z' Z
are computed instead of a full singular value decomposition of Z. Channels are processed in parallel, each on one BLAS
thread and in blocks of fixed size, so that the result of a channel has the same bits whatever else is computed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from scipy import linalg
from threadpoolctl import ThreadpoolController

from pipeline.arrays import BoolArray, Float64Array, FloatArray
from pipeline.errors import InputError
from pipeline.numerics.compiled import compiled

BLOCK = 2048  # number of pixels that are standardised and multiplied at a time
BATCH_BYTES = 4 << 20  # size of the standardised maps that a thread works on at a time: about that of its cache
MEMORY_MIB = 1024
# Z Z' has the square of the condition number of Z. If the smallest eigenvalue that is needed is below this share of the
# largest, the components are computed from Z itself.
SMALLEST_EIGENVALUE = 1e-8
# Up to this size, decomposing a whole stack of matrices is faster than computing the leading eigenvectors one by one.
SMALL_MATRIX = 100


def check_n_components(n_components: int | float, n_images: int, height: int, width: int) -> None:
    """Raise `InputError` unless a channel with `n_images` maps of `height` x `width` pixels has so many components."""
    most = min(n_images, height * width)
    if isinstance(n_components, float):
        if not 0 < n_components < 1:
            raise InputError(
                f"n_components must be in [1, {most}], or a share of the variance in (0, 1); got {n_components}."
            )
    elif not 1 <= n_components <= most:
        raise InputError(
            f"n_components must be in [1, {most}]; got {n_components} "
            f"({n_images} images, maps of {height} x {width} pixels). Lower it, or choose a layer with larger maps."
        )


def reduce_channels(
    maps: FloatArray,
    n_components: int | float,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    memory_mib: int = MEMORY_MIB,
    n_threads: int | None = None,
    first: int = 0,
) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Return the projections of every channel's activation maps onto its leading principal components.

    Each pixel is standardised over the images to mean 0 and standard deviation 1 (ddof 0); a pixel that does not vary
    becomes 0. The projections equal those of scikit-learn's ``StandardScaler`` and ``PCA(svd_solver="full")`` to 1e-6,
    including the signs, except that a component beyond the channel's rank is 0 instead of rounding noise.

    Parameters
    ----------
    maps : ndarray of shape (n_channels, n_images, height, width)
        Activation maps, which may be memory-mapped.
    n_components : int or float
        Number of components, at most ``min(n_images, height * width)``; or a share of the variance in (0, 1), for which
        each channel gets the smallest number of components that explain more than this share. Channels with fewer
        components than others are padded with 0.
    progress : callable
        Called with the number of channels that are done and the number of all channels.
    memory_mib : int
        Limit of the working memory in MiB, besides the maps and the result. It decides how many channels are processed
        at a time.
    n_threads : int or None
        Number of threads; None for one on each core. Neither this nor `memory_mib` changes the result.
    first : int
        Number of the first channel in its layer, for messages.

    Returns
    -------
    projections : ndarray of shape (n_channels, n_images, n_components)
        Projections, float64; 0 for a dead channel.
    explained_variance_ratio : ndarray of shape (n_channels, n_components)
        Share of the variance that each component explains, in [0, 1]; 0 for a dead channel.
    dead : ndarray of shape (n_channels,)
        Whether a channel is dead: none of its pixels varies over the images.

    Raises
    ------
    InputError
        If `n_components` is out of range, an activation is not finite, or a channel needs more memory than the limit.
    """
    n_channels, n_images, height, width = maps.shape
    check_n_components(n_components, n_images, height, width)
    channels = maps.reshape(n_channels, n_images, height * width)
    n_threads, batch, keep = _plan(n_images, height * width, memory_mib, n_threads or os.cpu_count() or 1)
    found = _Found(n_channels, n_images, n_components)

    def reduce_batch(start: int) -> int:
        for channel, reduced in enumerate(
            _reduce(channels[start : start + batch], first + start, n_components, keep), start
        ):
            found.put(channel, *reduced)
        return int(min(start + batch, n_channels))

    with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(n_threads) as threads:
        for n_done in threads.map(reduce_batch, range(0, n_channels, batch)):
            progress(n_done, n_channels)
    return found.arrays()


class _Found:
    """Collects the results of the channels, which arrive in any order."""

    def __init__(self, n_channels: int, n_images: int, n_components: int | float) -> None:
        self._is_count = isinstance(n_components, int)
        self._projections = np.zeros((n_channels, n_images, int(n_components)))
        self._scores = [np.empty((n_images, 0))] * n_channels
        self._ratios = [np.empty(0)] * n_channels

    def put(self, channel: int, scores: Float64Array, ratios: Float64Array) -> None:
        """Store a channel's projections and shares of variance."""
        self._ratios[channel] = ratios
        if self._is_count:  # written now, while the thread has the projections in its cache
            self._projections[channel, :, : len(ratios)] = scores
        else:
            self._scores[channel] = scores

    def arrays(self) -> tuple[Float64Array, Float64Array, BoolArray]:
        """Return projections, shares of variance and dead channels, padded to the largest number of components."""
        n_kept = np.array([len(ratios) for ratios in self._ratios])
        n_channels, n_images, most = self._projections.shape
        if not self._is_count:
            most = max(1, int(n_kept.max()))
            self._projections = np.zeros((n_channels, n_images, most))
            for channel, scores in enumerate(self._scores):
                self._projections[channel, :, : n_kept[channel]] = scores
        shares = np.zeros((n_channels, most))
        for channel, ratios in enumerate(self._ratios):
            shares[channel, : n_kept[channel]] = ratios
        return self._projections, shares, n_kept == 0


@cache
def _blas() -> ThreadpoolController:
    """Return the controller of BLAS threads, created once because searching the libraries takes milliseconds."""
    return ThreadpoolController()


def _plan(n_images: int, n_pixels: int, memory_mib: int, n_threads: int) -> tuple[int, int, bool]:
    """Return the number of threads, of channels in a batch, and whether standardised maps are kept in memory."""
    side, block = min(n_images, n_pixels), n_images * min(n_pixels, BLOCK)
    budget = memory_mib << 20
    # In memory are: the standardised channel or a block of it; Z Z' or Z' Z with LAPACK's copies; the axes if Z is
    # wide.
    rest = 4 * side * side + (n_pixels * side if n_images <= n_pixels else 0)
    least, kept = (
        8 * ((block if n_images <= n_pixels else n_images * n_pixels) + rest),
        8 * (n_images * n_pixels + rest),
    )
    if least > budget:
        raise InputError(
            f"reduce.memory_mib must be at least {-(-least >> 20)}; got {memory_mib} "
            f"({n_images} images, maps of {n_pixels} pixels). "
            "Raise it, take fewer images, or choose a layer with smaller maps."
        )
    n_threads = min(n_threads, max(1, budget // kept))
    return n_threads, max(1, min(budget // n_threads, BATCH_BYTES) // kept), n_threads * kept <= budget


def _reduce(
    channels: FloatArray, first: int, n_components: int | float, keep: bool
) -> Iterator[tuple[Float64Array, Float64Array]]:
    """Yield each channel's projections and shares of variance, both empty for a dead channel."""
    standardised = [_Standardised(channel, first + index, keep) for index, channel in enumerate(channels)]
    products = np.stack([each.product() for each in standardised])
    side = products.shape[1]
    in_one = isinstance(n_components, float) or side <= SMALL_MATRIX
    if in_one:
        all_values, all_vectors = np.linalg.eigh(products)
    for index, each in enumerate(standardised):
        variance = float(np.trace(products[index]))
        if variance == 0:
            yield np.empty((channels.shape[1], 0)), np.empty(0)
            continue
        if in_one:
            values, vectors = all_values[index], all_vectors[index]
        else:
            leading = (side - int(n_components), side - 1)
            values, vectors = linalg.eigh(products[index], subset_by_index=leading, driver="evr", check_finite=False)
        values, vectors = values[::-1], vectors[:, ::-1]
        n_kept = _n_kept(values / variance, n_components)
        values, vectors = values[:n_kept], vectors[:, :n_kept]
        if values[-1] < SMALLEST_EIGENVALUE * values[0]:
            scores, values = each.by_svd(n_kept)
        else:
            scores = each.project(values, vectors)
        yield scores, values / variance


def _n_kept(ratios: Float64Array, n_components: int | float) -> int:
    """Return the number of components; for a share of the variance, by scikit-learn's rule: those that exceed it."""
    if isinstance(n_components, int):
        return n_components
    return min(int(np.searchsorted(np.cumsum(ratios), n_components, side="right")) + 1, len(ratios))


def _signs(axes: Float64Array) -> Float64Array:
    """Return the signs that make the largest entry of each column of `axes` positive, as in scikit-learn."""
    signs: Float64Array = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return signs


class _Standardised:
    """The standardised matrix Z of one channel, of shape (n_images, n_pixels).

    If there are at least as many pixels as images (Z is wide), it is computed in blocks of pixels, which are either
    kept in memory or computed again whenever they are needed.
    """

    def __init__(self, channel: FloatArray, number: int, keep: bool) -> None:
        self._channel, self._number, self._keep = channel, number, keep
        self._is_wide = channel.shape[0] <= channel.shape[1]
        self._blocks: list[Float64Array] = []

    def blocks(self) -> Iterator[Float64Array]:
        """Yield the blocks of Z from left to right."""
        if self._blocks:
            yield from self._blocks
            return
        n_images, n_pixels = self._channel.shape
        step = BLOCK if self._is_wide else n_pixels
        for start in range(0, n_pixels, step):
            raw = np.require(self._channel[:, start : start + step], requirements=["C", "W"])
            block = np.empty((n_images, raw.shape[1]))
            if not standardise(raw, block):
                raise InputError(
                    f"activations must be finite; got NaN or infinity (channel {self._number}). Check the weights."
                )
            if self._keep or not self._is_wide:
                self._blocks.append(block)
            yield block

    def product(self) -> Float64Array:
        """Return Z Z' or Z' Z, the smaller of the two."""
        products = (block @ block.T if self._is_wide else block.T @ block for block in self.blocks())
        total = next(products)
        for product in products:
            total += product
        return total

    def project(self, values: Float64Array, vectors: Float64Array) -> Float64Array:
        """Return the projections from the leading eigenvalues and eigenvectors of `product`, largest first."""
        if self._is_wide:
            axes = np.concatenate([vectors.T @ block for block in self.blocks()], axis=1)
            return vectors * (np.sqrt(values) * _signs(axes.T))
        (whole,) = self.blocks()
        return whole @ (vectors * _signs(vectors))

    def by_svd(self, n_components: int) -> tuple[Float64Array, Float64Array]:
        """Return projections and eigenvalues from the singular value decomposition of Z, for a nearly singular Z."""
        whole = np.concatenate(list(self.blocks()), axis=1)
        left, singular, right = np.linalg.svd(whole, full_matrices=False)
        rounding = max(whole.shape) * np.finfo(np.float64).eps
        # Beyond the rank a component is rounding noise. ACE does not depend on scale and would fit it, so it is set to
        # 0.
        singular = np.where(singular > rounding * singular[0], singular, 0.0)[:n_components]
        return left[:, :n_components] * (singular * _signs(right[:n_components].T)), singular**2


@compiled
def standardise(raw, out):
    """Fill `out` with the standardised columns of `raw` (n_images, n_pixels): mean 0, standard deviation 1 (ddof 0).

    A column that does not vary by more than rounding (scikit-learn's bound) becomes 0. Return whether all values are
    finite.
    """
    n, d = raw.shape
    mean, factor = np.zeros(d), np.zeros(d)
    for i in range(n):
        for j in range(d):
            mean[j] += raw[i, j]
    for j in range(d):
        mean[j] /= n
    for i in range(n):
        for j in range(d):
            out[i, j] = raw[i, j] - mean[j]
            factor[j] += out[i, j] * out[i, j]
    is_finite = True
    eps = 2.0**-52
    for j in range(d):
        variance = factor[j] / n
        is_finite &= np.isfinite(variance)
        is_constant = variance <= n * eps * variance + (n * mean[j] * eps) ** 2
        factor[j] = 0.0 if is_constant else 1.0 / np.sqrt(variance)
    for i in range(n):
        for j in range(d):
            out[i, j] *= factor[j]
    return is_finite
