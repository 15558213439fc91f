"""Spline ACE on many subsets of the same images: halves for the reliability of a ranking, and for intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Float64Array, Int64Array
from pipeline.errors import InputError
from pipeline.numerics.predictors import MIN_IMAGES, Predictors
from pipeline.numerics.spline_ace import ScoreArrays, SplineScores, first_covariances
from pipeline.numerics.spline_basis import SplineBasis
from pipeline.numerics.spline_layer import (
    N_FUNCTIONS,
    SplineLayer,
    all_functions,
    channels_at_once,
    predictor_penalty,
)
from pipeline.numerics.spline_solver import Smoothness, leading_pairs, regressions
from pipeline.progress import Progress

SUBSETS_AT_ONCE = 16  # of one channel: their images stay in the cache
VALUES_AT_ONCE = 2**22  # of the functions at these images


def subset_spline_correlations(
    predictors: ArrayLike | Predictors,
    response: ArrayLike,
    subsets: ArrayLike,
    smoothness: Smoothness | None = None,
    *,
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> SplineScores:
    """Return the statistics of each channel by subsets of the images, with the functions and penalties of all of them.

    Parameters
    ----------
    predictors, response, smoothness, n_functions, n_threads, progress
        As in `permuted_spline_correlations`.
    subsets : array_like of shape (n_subsets, n_chosen)
        Indices of at least 5 images each. A subset in which the response does not vary scores
        0. It is faster where every second row holds the images that the row before does not: the covariances of one
        half of the images are those of all less those of the other half.

    Returns
    -------
    SplineScores
        Arrays of shape (n_channels, n_subsets).
    """
    layer = SplineLayer(predictors, response, n_functions, n_threads)
    smoothness = smoothness or Smoothness()
    chosen = np.asarray(subsets, dtype=np.int64)
    if chosen.ndim != 2 or chosen.shape[1] < MIN_IMAGES or chosen.min() < 0 or chosen.max() >= layer.n_images:
        raise InputError(
            f"subsets must be rows of at least {MIN_IMAGES} indices from 0 to {layer.n_images - 1}; "
            f"got an array of shape {chosen.shape}."
        )
    n_chosen, n_functions = chosen.shape[1], len(layer.response.values)
    is_paired = _is_paired(chosen, layer.n_images)
    weights = np.zeros((layer.n_images, len(chosen)))
    np.add.at(weights, (chosen, np.arange(len(chosen))[:, None]), 1 / n_chosen)
    # Columns are functions of the response, each for all subsets, weighted and centred over its subset.
    centred = layer.response.values[:, :, None] - (layer.response.values @ weights)[:, None, :]
    weighted = centred * weights
    responses = np.moveaxis(weighted, 0, 1).reshape(layer.n_images, -1)
    covariances = np.einsum("kns,lns->skl", weighted, centred)
    del centred, weighted
    side = layer.response_side(smoothness, covariances)
    scores = ScoreArrays(layer.n_channels, len(chosen))

    def work(first: int, basis: SplineBasis) -> None:
        penalty, every = predictor_penalty(basis, smoothness), all_functions(basis)
        n_rows = every.shape[1]
        at_once = channels_at_once(len(chosen) * n_rows * n_rows)
        for start in range(0, len(every), at_once):
            functions = every[start : start + at_once]
            cross = (functions @ responses).reshape(len(functions), n_rows, n_functions, -1)
            cross = np.ascontiguousarray(cross.transpose(0, 3, 1, 2))
            within = np.stack([_covariances(each, chosen, weights, is_paired) for each in functions])
            of_subsets = np.broadcast_to(penalty[start : start + at_once, None], cross.shape[:3])
            (solved,) = regressions(within, of_subsets[None], cross)
            pairs = leading_pairs(cross, solved, of_subsets, *side, first_covariances(within, basis))
            scores.put(slice(first + start, first + start + len(functions)), pairs)

    layer.each_chunk(work, progress)
    return SplineScores(*scores.arrays)


def _is_paired(chosen: Int64Array, n_images: int) -> bool:
    """Return whether each pair of rows holds all images once."""
    if len(chosen) % 2 or 2 * chosen.shape[1] != n_images:
        return False
    pairs = np.sort(chosen.reshape(len(chosen) // 2, n_images), axis=1)
    return bool((pairs == np.arange(n_images)).all())


def _covariances(functions: Float64Array, chosen: Int64Array, weights: Float64Array, is_paired: bool) -> Float64Array:
    """Return the covariances of a channel's functions, (q, n_images), over each subset, (n_subsets, q, q)."""
    images, n_functions = np.ascontiguousarray(functions.T), len(functions)
    products = np.empty((len(chosen), n_functions, n_functions))
    computed, rows = (products[::2], chosen[::2]) if is_paired else (products, chosen)
    at_once = max(1, min(SUBSETS_AT_ONCE, VALUES_AT_ONCE // (n_functions * chosen.shape[1])))
    for start in range(0, len(rows), at_once):
        block = slice(start, start + at_once)
        gathered = images[rows[block]]
        np.matmul(np.swapaxes(gathered, 1, 2), gathered, out=computed[block])
    if is_paired:
        np.subtract(functions @ images, products[::2], out=products[1::2])
    mean = (functions @ weights).T
    products /= chosen.shape[1]
    products -= mean[:, :, None] * mean[:, None, :]
    return products
