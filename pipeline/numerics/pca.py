"""Standardise and reduce every channel of a layer: the leading principal components, and nothing that is not asked for.

Of a channel's matrix Z (images x pixels, standardised) the smaller of Z Z' and Z' Z is formed and its leading
eigenvectors taken, instead of a singular value decomposition of all of Z. Channels go through in parallel, each on one
BLAS thread and in blocks of fixed size, so that a channel's digits depend on nothing but the channel.
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

BLOCK = 2048  # pixels standardised and multiplied at a time
BATCH_BYTES = 4 << 20  # of standardised maps worked on at a time by one thread: about what its cache holds
MEMORY_MIB = 1024
# Squaring Z squares its condition. Components with eigenvalues below this share of the largest are taken from Z itself.
SMALLEST_EIGENVALUE = 1e-8
# Up to this size LAPACK's decomposition of a whole stack beats one for the leading eigenvectors alone.
SMALL_MATRIX = 100


def check_n_components(n_components: int | float, n_images: int, height: int, width: int) -> None:
    """Raise `InputError` where a channel of `height` x `width` pixels over `n_images` has fewer components."""
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
) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Return every channel's images in its leading principal components.

    Each pixel is standardised over the images (mean 0, standard deviation 1 with ddof 0; one that never varies
    becomes 0). The projections are those of scikit-learn's ``StandardScaler`` and ``PCA(svd_solver="full")``, signs
    included, to 1e-6; a component past the channel's rank is 0, not rounding noise.

    Parameters
    ----------
    maps : ndarray of shape (n_channels, n_images, height, width)
        Activation maps; may be memory-mapped.
    n_components : int or float
        At most ``min(n_images, height * width)``. A float in (0, 1): for each channel as many as hold more than this
        share of its variance; the others' remaining components are 0.
    progress : callable
        Called with the channels done and all channels.
    memory_mib : int
        Most memory worked in, in MiB, beside the maps and the result; decides how many channels at a time.
    n_threads : int or None
        None: one for each core. Neither this nor `memory_mib` changes the result.

    Returns
    -------
    projections : ndarray of shape (n_channels, n_images, n_components)
        float64; 0 for a dead channel.
    explained_variance_ratio : ndarray of shape (n_channels, n_components)
        In [0, 1]; 0 for a dead channel.
    dead : ndarray of shape (n_channels,)
        Whether no pixel of the channel ever varies.

    Raises
    ------
    InputError
        If `n_components` is out of range, an activation is not finite, or one channel does not fit into the memory.
    """
    n_channels, n_images, height, width = maps.shape
    check_n_components(n_components, n_images, height, width)
    channels = maps.reshape(n_channels, n_images, height * width)
    n_threads, batch, keep = _plan(n_images, height * width, memory_mib, n_threads or os.cpu_count() or 1)
    found = _Found(n_channels, n_images, n_components)

    def reduce_batch(start: int) -> int:
        for channel, reduced in enumerate(_reduce(channels[start : start + batch], start, n_components, keep), start):
            found.put(channel, *reduced)
        return int(min(start + batch, n_channels))

    with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(n_threads) as threads:
        for n_done in threads.map(reduce_batch, range(0, n_channels, batch)):
            progress(n_done, n_channels)
    return found.arrays()


class _Found:
    """What was found channel by channel, in whatever order, until all are there."""

    def __init__(self, n_channels: int, n_images: int, n_components: int | float) -> None:
        self._is_count = isinstance(n_components, int)
        self._projections = np.zeros((n_channels, n_images, int(n_components)))
        self._scores = [np.empty((n_images, 0))] * n_channels
        self._ratios = [np.empty(0)] * n_channels

    def put(self, channel: int, scores: Float64Array, ratios: Float64Array) -> None:
        """Keep a channel's projections and shares of variance."""
        self._ratios[channel] = ratios
        if self._is_count:  # written at once, by the thread that has it in its cache
            self._projections[channel, :, : len(ratios)] = scores
        else:
            self._scores[channel] = scores

    def arrays(self) -> tuple[Float64Array, Float64Array, BoolArray]:
        """Return projections, shares and what is dead; as many components as the channel with most of them has."""
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
    """Return the hold on BLAS's threads; finding its libraries takes milliseconds, so it is done once."""
    return ThreadpoolController()


def _plan(n_images: int, n_pixels: int, memory_mib: int, n_threads: int) -> tuple[int, int, bool]:
    """Return how many threads work at a time, on how many channels each, and whether they keep standardised maps."""
    side, block = min(n_images, n_pixels), n_images * min(n_pixels, BLOCK)
    budget = memory_mib << 20
    # The standardised channel or a block of it at a time; Z Z' or Z' Z, and LAPACK's copies of it; a wide one's axes.
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
    """Yield each channel's projections and the shares of variance, both empty for a dead one."""
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
    """Return the number itself or, for a share, how many components hold more than it (scikit-learn's rule)."""
    if isinstance(n_components, int):
        return n_components
    return min(int(np.searchsorted(np.cumsum(ratios), n_components, side="right")) + 1, len(ratios))


def _signs(axes: Float64Array) -> Float64Array:
    """Return the signs that make each axis's largest entry positive, as scikit-learn does; `axes` are columns."""
    signs: Float64Array = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return signs


class _Standardised:
    """One channel's matrix Z, (n_images, n_pixels); where it is wide, in blocks of pixels, kept or made anew."""

    def __init__(self, channel: FloatArray, number: int, keep: bool) -> None:
        self._channel, self._number, self._keep = channel, number, keep
        self._is_wide = channel.shape[0] <= channel.shape[1]
        self._blocks: list[Float64Array] = []

    def blocks(self) -> Iterator[Float64Array]:
        """Yield Z from left to right."""
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
        """Return the projections, given the leading eigenvalues and eigenvectors of `product`, largest first."""
        if self._is_wide:
            axes = np.concatenate([vectors.T @ block for block in self.blocks()], axis=1)
            return vectors * (np.sqrt(values) * _signs(axes.T))
        (whole,) = self.blocks()
        return whole @ (vectors * _signs(vectors))

    def by_svd(self, n_components: int) -> tuple[Float64Array, Float64Array]:
        """Return projections and eigenvalues from Z itself, for a channel that is nearly of lower rank."""
        whole = np.concatenate(list(self.blocks()), axis=1)
        left, singular, right = np.linalg.svd(whole, full_matrices=False)
        rounding = max(whole.shape) * np.finfo(np.float64).eps
        # Past the rank a component is rounding noise, which ACE, blind to scale, would fit: it is 0.
        singular = np.where(singular > rounding * singular[0], singular, 0.0)[:n_components]
        return left[:, :n_components] * (singular * _signs(right[:n_components].T)), singular**2


@compiled
def standardise(raw, out):
    """Fill `out` with each column of `raw`, (n_images, n_pixels), at mean 0 and standard deviation 1 (ddof 0).

    A column that never varies, or by no more than rounding (scikit-learn's bound), becomes 0. Return whether all is
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
