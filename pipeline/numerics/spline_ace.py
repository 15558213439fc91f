"""ACE with penalised splines: the maximal correlation in closed form, for all channels of a layer at once.

As with the supersmoother, transforms phi_1 ... phi_p of the predictors and theta of the response are looked for whose
correlation is as large as possible. Here each transform is a cubic regression spline with a penalty on its roughness,
so that the solution is a singular value decomposition (see `spline_solver`): no iterations, no decisions on the way,
and a result that is a continuous function of the data. How smooth the transforms are is set by `Smoothness`, one for
all channels; `spline_smoothness.select_smoothness` chooses it by cross-validation.

A channel's result has the same bits alone, among others, and on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import InputError
from pipeline.numerics.spline_basis import SplineBasis
from pipeline.numerics.spline_layer import MIN_IMAGES, N_FUNCTIONS, SplineLayer, all_functions, predictor_penalty
from pipeline.numerics.spline_solver import NUGGET, Pairs, Smoothness, leading_pairs, penalised

FloatArray = NDArray[np.floating[Any]]
Vector = NDArray[np.float64]
Progress = Callable[[int, int], None]

SUBSETS_AT_ONCE = 16  # of one channel: their images stay in the cache


@dataclass(frozen=True)
class SplineScores:
    """The three statistics, of shape (n_channels,) or (n_channels, n_repetitions).

    Attributes
    ----------
    penalised : ndarray
        The singular value: the correlation with the penalties counted in, which shrinks it where the evidence is thin.
    maximal : ndarray
        corr(phi_1 + ... + phi_p, theta).
    first : ndarray
        abs(corr(phi_1, theta)).
    """

    penalised: Vector
    maximal: Vector
    first: Vector


@dataclass(frozen=True)
class SplineAceResult(SplineScores):
    """What was found for every channel. All statistics are in [0, 1], and 0 where no predictor varies.

    Attributes
    ----------
    phi : ndarray of shape (n_channels, n_images, n_components)
        The predictors' transforms at the images, mean 0; their sum is the penalised regression of theta.
    theta : ndarray of shape (n_channels, n_images)
        The response's transform, mean 0 and standard deviation 1, rising with the response on the whole.
    degrees_of_freedom : ndarray of shape (n_channels,)
        Effective degrees of freedom of the regression on the predictors: the trace of its smoother matrix.
    response_degrees_of_freedom : float
        The same for theta, 1 for a straight line.
    """

    phi: Vector
    theta: Vector
    degrees_of_freedom: Vector
    response_degrees_of_freedom: float


def spline_transforms(
    predictors: ArrayLike,
    response: ArrayLike,
    smoothness: Smoothness | None = None,
    *,
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> SplineAceResult:
    """Return the transforms and the correlations they reach, for each channel.

    Parameters
    ----------
    predictors : array_like of shape (n_channels, n_images, n_components)
        Finite. A predictor that never varies gets phi = 0; duplicated ones share theirs.
    response : array_like of shape (n_images,)
        Finite, not constant; at least 5 images.
    smoothness : Smoothness or None
        None: the default one. See `spline_smoothness.select_smoothness`.
    n_functions : int
        Functions kept for each variable, the smoothest of a natural spline on `N_KNOTS` or more knots; at least 1.
    n_threads : int or None
        None: one for each core. The result does not depend on it.
    progress : callable or None
        Called with the number of channels done and of all channels.

    Raises
    ------
    InputError
        If a value is not finite, the response is constant, shapes do not fit, or there are fewer than 5 images.
    """
    layer = SplineLayer(predictors, response, n_functions, n_threads)
    smoothness = smoothness or Smoothness()
    side = layer.response_side(smoothness)
    n_images = layer.n_images
    phi, theta = np.zeros(layer.predictors.shape), np.zeros((layer.n_channels, n_images))
    degrees = np.zeros(layer.n_channels)
    scores = _Scores(layer.n_channels)

    def work(first: int, basis: SplineBasis) -> None:
        functions, channels = all_functions(basis), slice(first, first + len(basis.values))
        penalty = predictor_penalty(basis, smoothness)
        within = functions @ np.swapaxes(functions, 1, 2) / n_images
        inverse = np.linalg.inv(penalised(within, penalty))
        cross = functions @ layer.response.values.T / n_images
        pairs = leading_pairs(cross, inverse @ cross, penalty, *side, _of_first(within, basis))
        scores.put(channels, pairs)
        degrees[channels] = _degrees_of_freedom(inverse, penalty)
        values = pairs.response @ layer.response.values
        scale = np.sqrt(np.mean(values * values, axis=1, keepdims=True))
        theta[channels] = values / scale
        coefficients = pairs.predictors * (pairs.penalised[:, None] / scale)
        phi[channels] = np.einsum("cjk,cjkn->cnj", coefficients.reshape(basis.roughness.shape), basis.values)

    layer.each_chunk(work, progress)
    return SplineAceResult(
        *scores.arrays,
        phi=phi,
        theta=theta,
        degrees_of_freedom=degrees,
        response_degrees_of_freedom=float(_degrees_of_freedom(side[1].T @ side[1], side[0])),
    )


def spline_correlations(
    predictors: ArrayLike,
    response: ArrayLike,
    smoothness: Smoothness | None = None,
    *,
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
) -> SplineScores:
    """Return the three statistics of each channel, (n_channels,); the parameters are those of `spline_transforms`."""
    n_images = np.shape(response)[0] if np.ndim(response) else 0
    found = permuted_spline_correlations(
        predictors, response, np.arange(n_images)[None], smoothness, n_functions=n_functions, n_threads=n_threads
    )
    return SplineScores(found.penalised[:, 0], found.maximal[:, 0], found.first[:, 0])


def permuted_spline_correlations(
    predictors: ArrayLike,
    response: ArrayLike,
    permutations: ArrayLike,
    smoothness: Smoothness | None = None,
    *,
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> SplineScores:
    """Return the statistics of each channel for permuted responses: what they are when there is no association.

    The predictors' matrices are inverted once for all permutations, and the response's functions are permuted rather
    than computed anew, so that a channel takes little more than one matrix product.

    Parameters
    ----------
    predictors, response, smoothness, n_functions, n_threads
        As in `spline_transforms`.
    permutations : array_like of shape (n_permutations, n_images)
        Indices: the response of image i becomes ``response[permutations[b, i]]``.
    progress : callable or None
        Called with the channels done and all channels.

    Returns
    -------
    SplineScores
        Arrays of shape (n_channels, n_permutations).
    """
    layer = SplineLayer(predictors, response, n_functions, n_threads)
    smoothness = smoothness or Smoothness()
    indices = np.asarray(permutations, dtype=np.int64)
    every = np.tile(np.arange(layer.n_images), (len(indices), 1))
    if indices.ndim != 2 or not np.array_equal(np.sort(indices, axis=1), every):
        raise InputError(f"permutations must be rows of the indices 0 to {layer.n_images - 1}, each once a row.")
    side = layer.response_side(smoothness)
    permuted = np.moveaxis(layer.response.values[:, indices], 2, 0).reshape(layer.n_images, -1) / layer.n_images
    scores = _Scores(layer.n_channels, len(indices))

    def work(first: int, basis: SplineBasis) -> None:
        penalty = predictor_penalty(basis, smoothness)
        for channel, functions in enumerate(all_functions(basis)):
            within = functions @ functions.T / layer.n_images
            cross = functions @ permuted
            solved = np.linalg.solve(penalised(within, penalty[channel]), cross)
            # Columns are functions of the response, each for all permutations.
            cross, solved = (each.reshape(len(each), -1, len(indices)).transpose(2, 0, 1) for each in (cross, solved))
            pairs = leading_pairs(cross, solved, penalty[channel], *side, _of_first(within, basis))
            scores.put(first + channel, pairs)

    layer.each_chunk(work, progress)
    return SplineScores(*scores.arrays)


def subset_spline_correlations(
    predictors: ArrayLike,
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
        Indices of at least 5 images each. A subset in which the response does not vary scores 0.

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
    weights = np.zeros((layer.n_images, len(chosen)))
    np.add.at(weights, (chosen, np.arange(len(chosen))[:, None]), 1 / n_chosen)
    # Columns are functions of the response, each for all subsets, weighted and centred over its subset.
    centred = layer.response.values[:, :, None] - (layer.response.values @ weights)[:, None, :]
    responses = np.moveaxis(centred * weights, 0, 1).reshape(layer.n_images, -1)
    covariances = np.einsum("kns,lns->skl", centred * weights, centred)
    side = layer.response_side(smoothness, covariances)
    scores = _Scores(layer.n_channels, len(chosen))

    def work(first: int, basis: SplineBasis) -> None:
        penalty = predictor_penalty(basis, smoothness)
        for channel, functions in enumerate(all_functions(basis)):
            cross = (functions @ responses).reshape(-1, n_functions, len(chosen)).transpose(2, 0, 1)
            within = _subset_covariances(functions, chosen, weights)
            solved = np.linalg.solve(penalised(within, penalty[channel]), cross)
            pairs = leading_pairs(cross, solved, penalty[channel], *side, _of_first(within, basis))
            scores.put(first + channel, pairs)

    layer.each_chunk(work, progress)
    return SplineScores(*scores.arrays)


class _Scores:
    """Arrays of the three statistics that threads fill channel by channel."""

    def __init__(self, *shape: int) -> None:
        self.arrays = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def put(self, channels: int | slice, pairs: Pairs) -> None:
        """Store the statistics of some channels."""
        for values, found in zip(self.arrays, (pairs.penalised, pairs.maximal, pairs.first), strict=True):
            values[channels] = found


def _subset_covariances(functions: Vector, chosen: NDArray[np.int64], weights: Vector) -> Vector:
    """Return the covariances of a channel's functions, (q, n_images), over each subset, (n_subsets, q, q)."""
    images, n_functions = np.ascontiguousarray(functions.T), len(functions)
    covariances = np.empty((len(chosen), n_functions, n_functions))
    for start in range(0, len(chosen), SUBSETS_AT_ONCE):
        block = slice(start, start + SUBSETS_AT_ONCE)
        gathered = images[chosen[block]]
        np.matmul(np.swapaxes(gathered, 1, 2), gathered, out=covariances[block])
    mean = (functions @ weights).T
    covariances /= chosen.shape[1]
    covariances -= mean[:, :, None] * mean[:, None, :]
    return covariances


def _of_first(within: Vector, basis: SplineBasis) -> Vector:
    """Return the covariances of the first component's functions."""
    n_functions = basis.roughness.shape[-1]
    return within[..., :n_functions, :n_functions]


def _degrees_of_freedom(inverse: FloatArray, penalty: FloatArray) -> Vector:
    """Return the trace of (A + P)^-1 A, given the inverse and the diagonal of P."""
    diagonal = np.arange(penalty.shape[-1])
    degrees: Vector = (1.0 - (penalty + NUGGET) * inverse[..., diagonal, diagonal]).sum(axis=-1)
    return degrees
