"""Standardise every channel of a layer and project it onto its leading principal components.

For the standardised matrix Z (images x pixels) of a channel, the leading eigenvectors of the smaller of Z Z' and Z' Z
are computed instead of a full singular value decomposition of Z. Where both are too large (`is_approximate`), those of
Z' Z are approximated, with an error that is part of the result. Z is computed in blocks (`standardised`).

Channels are processed in parallel, each on one BLAS thread and in blocks of fixed size, so that the result of a channel
has the same bits whatever else is computed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from pipeline.arrays import BoolArray, Float64Array, FloatArray
from pipeline.errors import InputError
from pipeline.numerics.eigenpairs import largest_eigenpairs
from pipeline.numerics.krylov import MORE, MOST_BLOCKS, leading_eigenpairs
from pipeline.numerics.standardised import Standardised, block_shape, is_wide

BATCH_BYTES = 4 << 20  # size of the standardised maps that a thread works on at a time: about that of its cache
MEMORY_MIB = 1024
# Z Z' has the square of the condition number of Z. If the smallest eigenvalue that is needed is below this share of the
# largest, the components are computed from Z itself.
SMALLEST_EIGENVALUE = 1e-8
# Up to this size, decomposing a whole stack of matrices is faster than computing the leading eigenvectors one by one.
SMALL_MATRIX = 100
# Rows of the largest product that is decomposed: it takes 128 MiB, four times that while it is decomposed, and 20 s.
LARGEST_PRODUCT = 4096
MOST_APPROXIMATE = 100  # components


class Reduced(NamedTuple):
    """The principal components of the channels of a layer.

    Attributes
    ----------
    values : ndarray of shape (n_channels, n_images, n_components)
        Projections, float64; 0 for a dead channel.
    explained_variance_ratio : ndarray of shape (n_channels, n_components)
        Share of the variance that each component explains, in [0, 1]; 0 for a dead channel.
    dead : ndarray of shape (n_channels,)
        Whether a channel is dead: none of its pixels varies over the images.
    residual : ndarray of shape (n_channels,) or None
        If the components are approximated, the residual of each channel, see `krylov.Eigenpairs`; None if they are
        exact.
    """

    values: Float64Array
    explained_variance_ratio: Float64Array
    dead: BoolArray
    residual: Float64Array | None = None


def is_approximate(n_images: int, n_pixels: int) -> bool:
    """Return whether the components of such maps are approximated, because exact ones would be too expensive."""
    return min(n_images, n_pixels) > LARGEST_PRODUCT


def check_n_components(n_components: int | float, n_images: int, height: int, width: int) -> None:
    """Raise `InputError` unless a channel with `n_images` maps of `height` x `width` pixels has so many components."""
    most = min(n_images, height * width)
    if isinstance(n_components, float):
        if not 0 < n_components < 1:
            raise InputError(
                f"n_components must be in [1, {most}], or a share of the variance in (0, 1); got {n_components}."
            )
        if is_approximate(n_images, height * width):
            raise InputError(
                f"n_components must be a number with more than {LARGEST_PRODUCT} images and maps of more than "
                f"{LARGEST_PRODUCT} pixels, whose components are approximated; got {n_components} "
                f"({n_images} images, maps of {height} x {width} pixels). Set it, for example n_components=10, or "
                "choose a layer with smaller maps."
            )
    elif not 1 <= n_components <= most:
        raise InputError(
            f"n_components must be in [1, {most}]; got {n_components} "
            f"({n_images} images, maps of {height} x {width} pixels). Lower it, or choose a layer with larger maps."
        )
    elif is_approximate(n_images, height * width) and n_components > MOST_APPROXIMATE:
        raise InputError(
            f"n_components must be at most {MOST_APPROXIMATE} with more than {LARGEST_PRODUCT} images and maps of more "
            f"than {LARGEST_PRODUCT} pixels, whose components are approximated; got {n_components} "
            f"({n_images} images, maps of {height} x {width} pixels). Lower it, or choose a layer with smaller maps."
        )


def reduce_channels(
    maps: FloatArray,
    n_components: int | float,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    memory_mib: int = MEMORY_MIB,
    n_threads: int | None = None,
    empty: Callable[[tuple[int, ...]], Float64Array] = np.empty,
    first: int = 0,
) -> Reduced:
    """Return the projections of every channel's activation maps onto its leading principal components.

    Each pixel is standardised over the images to mean 0 and standard deviation 1 (ddof 0); a pixel that does not vary
    becomes 0. The projections equal those of scikit-learn's ``StandardScaler`` and ``PCA(svd_solver="full")`` to 1e-6,
    including the signs, except that a component beyond the channel's rank is 0 instead of rounding noise.

    With more than `LARGEST_PRODUCT` images and maps of more pixels than that, components are approximated; see
    `Reduced.residual`.

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
    empty : callable
        Returns an array of the given shape for the projections, which may be memory-mapped.
    first : int
        Number of the first channel in its layer, for messages.

    Returns
    -------
    Reduced
        Projections, shares of variance and dead channels.

    Raises
    ------
    InputError
        If `n_components` is out of range, an activation is not finite, or a channel needs more memory than the limit.
    """
    n_channels, n_images, height, width = maps.shape
    check_n_components(n_components, n_images, height, width)
    n_pixels = height * width
    channels = maps.reshape(n_channels, n_images, n_pixels)
    reduced = _approximated if is_approximate(n_images, n_pixels) else _reduce
    n_threads, batch, keep = _plan(n_images, n_pixels, n_components, memory_mib, n_threads or os.cpu_count() or 1)
    found = _Found(n_channels, n_images, n_components, empty)

    def reduce_batch(start: int) -> int:
        some = reduced(channels[start : start + batch], first + start, n_components, keep)
        for channel, each in enumerate(some, start):
            found.put(channel, each)
        return int(min(start + batch, n_channels))

    with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(n_threads) as threads:
        for n_done in threads.map(reduce_batch, range(0, n_channels, batch)):
            progress(n_done, n_channels)
    return found.result()


class _Channel(NamedTuple):
    """Projections and shares of the variance, both empty for a dead channel; the residual is NaN if they are exact."""

    scores: Float64Array
    ratios: Float64Array
    residual: float = float("nan")


class _Found:
    """Collects the results of the channels, which arrive in any order."""

    def __init__(
        self,
        n_channels: int,
        n_images: int,
        n_components: int | float,
        empty: Callable[[tuple[int, ...]], Float64Array],
    ) -> None:
        self._shape, self._empty = (n_channels, n_images), empty
        self._projections = empty((n_channels, n_images, n_components)) if isinstance(n_components, int) else None
        self._scores = [np.empty((n_images, 0))] * n_channels
        self._ratios = [np.empty(0)] * n_channels
        self._residual = np.full(n_channels, np.nan)

    def put(self, channel: int, found: _Channel) -> None:
        """Store the result of a channel."""
        self._ratios[channel], self._residual[channel] = found.ratios, found.residual
        if self._projections is None:
            self._scores[channel] = found.scores
        else:  # written now, while the thread has the projections in its cache
            _fill(self._projections[channel], found.scores)

    def result(self) -> Reduced:
        """Return all results, padded to the largest number of components."""
        n_kept = np.array([len(ratios) for ratios in self._ratios])
        projections = self._projections
        if projections is None:
            projections = self._empty((*self._shape, max(1, int(n_kept.max()))))
            for channel, scores in enumerate(self._scores):
                _fill(projections[channel], scores)
        shares = np.zeros((len(n_kept), projections.shape[2]))
        for channel, ratios in enumerate(self._ratios):
            shares[channel, : n_kept[channel]] = ratios
        residual = None if np.isnan(self._residual).all() else self._residual
        return Reduced(projections, shares, n_kept == 0, residual)


def _fill(row: Float64Array, scores: Float64Array) -> None:
    """Write projections into a row that may have more components."""
    row[:, : scores.shape[1]] = scores
    row[:, scores.shape[1] :] = 0.0


@cache
def _blas() -> ThreadpoolController:
    """Return the controller of BLAS threads, created once because searching the libraries takes milliseconds."""
    return ThreadpoolController()


def _plan(
    n_images: int, n_pixels: int, n_components: int | float, memory_mib: int, n_threads: int
) -> tuple[int, int, bool]:
    """Return the number of threads, of channels in a batch, and whether standardised maps are kept in memory."""
    side, (block_images, block_pixels) = min(n_images, n_pixels), block_shape(n_images, n_pixels)
    budget = memory_mib << 20
    # In memory are: the standardised channel or a block of it; Z Z' or Z' Z with LAPACK's copies; the axes if Z is
    # wide; for an approximation, the vectors and their products with Z' Z, with a copy of one of the two.
    if is_approximate(n_images, n_pixels):
        rest = 3 * (int(n_components) + MORE) * MOST_BLOCKS * n_pixels
    else:
        rest = 4 * side * side + (n_pixels * side if is_wide(n_images, n_pixels) else 0)
    least, kept = 8 * (block_images * block_pixels + rest), 8 * (n_images * n_pixels + rest)
    if least > budget:
        raise InputError(
            f"reduce.memory_mib must be at least {-(-least >> 20)}; got {memory_mib} "
            f"({n_images} images, maps of {n_pixels} pixels). "
            "Raise it, take fewer images, or choose a layer with smaller maps."
        )
    n_threads = min(n_threads, budget // least)
    return n_threads, max(1, min(budget // n_threads, BATCH_BYTES) // kept), n_threads * kept <= budget


def _reduce(channels: FloatArray, first: int, n_components: int | float, keep: bool) -> Iterator[_Channel]:
    """Yield the exact components of each channel."""
    standardised = [Standardised(channel, first + index, keep) for index, channel in enumerate(channels)]
    products = np.stack([each.product() for each in standardised])
    side = products.shape[1]
    in_one = isinstance(n_components, float) or side <= SMALL_MATRIX
    if in_one:
        all_values, all_vectors = np.linalg.eigh(products)
    for index, each in enumerate(standardised):
        variance = float(np.trace(products[index]))
        if variance == 0:
            yield _Channel(np.empty((channels.shape[1], 0)), np.empty(0))
            continue
        if in_one:
            values, vectors = all_values[index], all_vectors[index]
        else:
            values, vectors = largest_eigenpairs(products[index], int(n_components))
        values, vectors = values[::-1], vectors[:, ::-1]
        n_kept = _n_kept(values / variance, n_components)
        values, vectors = values[:n_kept], vectors[:, :n_kept]
        if values[-1] < SMALLEST_EIGENVALUE * values[0]:
            scores, values = _by_svd(each, n_kept)
        else:
            scores = _project(each, values, vectors)
        yield _Channel(scores, values / variance)


def _approximated(channels: FloatArray, first: int, n_components: int | float, keep: bool) -> Iterator[_Channel]:
    """Yield approximate components of each channel."""
    for index, channel in enumerate(channels):
        each = Standardised(channel, first + index, keep)
        variance = each.sum_of_squares()
        if variance == 0:
            yield _Channel(np.empty((channels.shape[1], 0)), np.empty(0), 0.0)
            continue
        found = leading_eigenpairs(each.product_times, channel.shape[1], int(n_components))
        yield _Channel(_project(each, found.values, found.vectors), found.values / variance, found.residual)


def _n_kept(ratios: Float64Array, n_components: int | float) -> int:
    """Return the number of components; for a share of the variance, by scikit-learn's rule: those that exceed it."""
    if isinstance(n_components, int):
        return n_components
    return min(int(np.searchsorted(np.cumsum(ratios), n_components, side="right")) + 1, len(ratios))


def _signs(axes: Float64Array) -> Float64Array:
    """Return the signs that make the largest entry of each column of `axes` positive, as in scikit-learn."""
    signs: Float64Array = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return signs


def _project(each: Standardised, values: Float64Array, vectors: Float64Array) -> Float64Array:
    """Return the projections from leading eigenvalues and eigenvectors of Z Z' if Z is wide, otherwise of Z' Z."""
    if each.is_wide:
        axes = np.concatenate([vectors.T @ block for block in each.blocks()], axis=1)
        return vectors * (np.sqrt(values) * _signs(axes.T))
    return each.times(vectors * _signs(vectors))


def _by_svd(each: Standardised, n_components: int) -> tuple[Float64Array, Float64Array]:
    """Return projections and eigenvalues from the singular value decomposition of Z, for a nearly singular Z."""
    rounding = max(each.shape) * np.finfo(np.float64).eps
    # Beyond the rank a component is rounding noise. ACE does not depend on scale and would fit it, so it is set to 0.
    if not each.is_divided:
        left, singular, right = np.linalg.svd(each.whole(), full_matrices=False)
        singular = np.where(singular > rounding * singular[0], singular, 0.0)[:n_components]
        return left[:, :n_components] * (singular * _signs(right[:n_components].T)), singular**2
    _, singular, right = np.linalg.svd(each.triangular(), full_matrices=False)
    singular = np.where(singular > rounding * singular[0], singular, 0.0)[:n_components]
    axes = right[:n_components].T * (singular > 0)
    return each.times(axes * _signs(axes)), singular**2
