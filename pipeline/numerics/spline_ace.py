"""ACE with penalised splines: the maximal correlation in closed form, for all channels of a layer at once.

As with the supersmoother, transforms phi_1 ... phi_p of the predictors and theta of the response are looked for whose
correlation is as large as possible. Here each transform is a cubic regression spline with a penalty on its roughness,
so that the solution is a singular value decomposition (see `spline_solver`): no iterations, no decisions on the way,
and a result that is a continuous function of the data. How smooth the transforms are is set by `Smoothness`, one for
all channels; `spline_smoothness.select_smoothness` chooses it by cross-validation.

A channel's result has the same bits alone, among others, and on any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Float64Array, FloatArray
from pipeline.errors import InputError
from pipeline.numerics.predictors import Predictors, Transforms
from pipeline.numerics.spline_basis import SplineBasis
from pipeline.numerics.spline_layer import (
    N_FUNCTIONS,
    SplineLayer,
    all_functions,
    channels_at_once,
    predictor_penalty,
)
from pipeline.numerics.spline_solver import NUGGET, Pairs, Smoothness, leading_pairs, penalised
from pipeline.progress import Progress


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

    penalised: Float64Array
    maximal: Float64Array
    first: Float64Array


@dataclass(frozen=True)
class SplineAceResult(SplineScores):
    """What was found for every channel. All statistics are in [0, 1], and 0 where no predictor varies.

    Attributes
    ----------
    r_squared : ndarray of shape (n_channels,)
        1 - mean((theta - sum of phi)^2); 0 where no predictor varies.
    phi : ndarray of shape (n_channels, n_images, n_components)
        The predictors' transforms at the images, mean 0; their sum is the penalised regression of theta.
    theta : ndarray of shape (n_channels, n_images)
        The response's transform, mean 0 and standard deviation 1, rising with the response on the whole.
    degrees_of_freedom : ndarray of shape (n_channels,)
        Effective degrees of freedom of the regression on the predictors: the trace of its smoother matrix.
    response_degrees_of_freedom : float
        The same for theta, 1 for a straight line.
    """

    r_squared: Float64Array
    phi: FloatArray
    theta: FloatArray
    degrees_of_freedom: Float64Array
    response_degrees_of_freedom: float


def spline_transforms(
    predictors: ArrayLike | Predictors,
    response: ArrayLike,
    smoothness: Smoothness | None = None,
    *,
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
    progress: Progress | None = None,
    transforms: Transforms | None = None,
) -> SplineAceResult:
    """Return the transforms and the correlations they reach, for each channel.

    Parameters
    ----------
    predictors : Predictors, or array_like of shape (n_channels, n_images, n_components)
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
    transforms : Transforms or None
        Arrays to which the transforms are written; None for new ones.

    Raises
    ------
    InputError
        If a value is not finite, the response is constant, shapes do not fit, or there are fewer than 5 images.
    """
    layer = SplineLayer(predictors, response, n_functions, n_threads)
    smoothness = smoothness or Smoothness()
    side = layer.response_side(smoothness)
    n_images = layer.n_images
    transforms = transforms or Transforms.in_memory(*layer.predictors.shape)
    degrees, r_squared = np.zeros(layer.n_channels), np.zeros(layer.n_channels)
    scores = ScoreArrays(layer.n_channels)
    centred = np.asarray(response, dtype=np.float64)
    centred = centred / np.abs(centred).max()  # so that no square overflows or underflows
    centred -= centred.mean()
    standardised = centred / np.sqrt(np.mean(centred * centred))  # theta where no predictor varies

    def work(first: int, basis: SplineBasis) -> None:
        functions, channels = all_functions(basis), slice(first, first + len(basis.values))
        penalty = predictor_penalty(basis, smoothness)
        within = functions @ np.swapaxes(functions, 1, 2) / n_images
        inverse = np.linalg.inv(penalised(within, penalty))
        cross = functions @ layer.response.values.T / n_images
        pairs = leading_pairs(cross, inverse @ cross, penalty, *side, first_covariances(within, basis))
        scores.put(channels, pairs)
        degrees[channels] = _degrees_of_freedom(inverse, penalty)
        values = pairs.response @ layer.response.values
        has_fit = pairs.penalised > 0
        scale = np.where(has_fit[:, None], np.sqrt(np.mean(values * values, axis=1, keepdims=True)), 1.0)
        theta = np.where(has_fit[:, None], values / scale, standardised)
        coefficients = pairs.predictors * (pairs.penalised[:, None] / scale)
        phi = np.ascontiguousarray(
            np.einsum("cjk,cjkn->cnj", coefficients.reshape(basis.roughness.shape), basis.values)
        )
        residual = theta - phi.sum(axis=2)
        r_squared[channels] = np.where(pairs.maximal > 0, 1 - np.mean(residual * residual, axis=1), 0.0)
        transforms.put(first, phi, theta)

    layer.each_chunk(work, progress)
    return SplineAceResult(
        *scores.arrays,
        r_squared=r_squared,
        phi=transforms.phi,
        theta=transforms.theta,
        degrees_of_freedom=degrees,
        response_degrees_of_freedom=float(_degrees_of_freedom(side[1].T @ side[1], side[0])),
    )


def spline_correlations(
    predictors: ArrayLike | Predictors,
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
    predictors: ArrayLike | Predictors,
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
    every = np.arange(layer.n_images)
    if indices.ndim != 2 or not all(np.array_equal(np.sort(row), every) for row in indices):
        raise InputError(f"permutations must be rows of the indices 0 to {layer.n_images - 1}, each once a row.")
    side = layer.response_side(smoothness)
    # Columns are functions of the response, each for all permutations.
    permuted = np.empty((layer.n_images, len(layer.response.values) * len(indices)))
    for number, values in enumerate(layer.response.values):
        permuted[:, number * len(indices) : (number + 1) * len(indices)] = values[indices].T
    permuted /= layer.n_images
    scores = ScoreArrays(layer.n_channels, len(indices))

    def work(first: int, basis: SplineBasis) -> None:
        penalty, every = predictor_penalty(basis, smoothness), all_functions(basis)
        at_once = channels_at_once(every.shape[1] * permuted.shape[1])
        for start in range(0, len(every), at_once):
            functions, own_penalty = every[start : start + at_once], penalty[start : start + at_once]
            within = functions @ np.swapaxes(functions, 1, 2) / layer.n_images
            cross = functions @ permuted
            solved = np.linalg.solve(penalised(within, own_penalty), cross)
            cross, solved = (
                np.ascontiguousarray(each.reshape(*each.shape[:2], -1, len(indices)).transpose(0, 3, 1, 2))
                for each in (cross, solved)
            )
            own_first = first_covariances(within, basis)[:, None]
            pairs = leading_pairs(cross, solved, own_penalty[:, None], *side, own_first)
            scores.put(slice(first + start, first + start + len(functions)), pairs)

    layer.each_chunk(work, progress)
    return SplineScores(*scores.arrays)


def spline_regression(x: ArrayLike, y: ArrayLike, curvature: float, *, n_functions: int = N_FUNCTIONS) -> Float64Array:
    """Return an estimate of E[y | x] at every x by a penalised regression spline.

    Parameters
    ----------
    x, y : array_like of shape (n_points,)
        Finite values; at least 5 points. If all x are equal, the estimate is the mean of y.
    curvature : float
        In [0, 1], as `Smoothness.predictors`: 0 is a straight line, 1 an unpenalised spline.
    n_functions : int
        Number of functions, as in `spline_transforms`.
    """
    target = np.asarray(y, dtype=np.float64)
    layer = SplineLayer(np.asarray(x, dtype=np.float64)[None, :, None], np.arange(len(target)), n_functions, 1)
    found: list[Float64Array] = []

    def work(_first: int, basis: SplineBasis) -> None:
        functions = all_functions(basis)[0]
        penalty = predictor_penalty(basis, Smoothness(predictors=curvature))[0]
        covariance = functions @ functions.T / len(target)
        coefficients = np.linalg.solve(
            penalised(covariance, penalty), functions @ (target - target.mean()) / len(target)
        )
        found.append(target.mean() + coefficients @ functions)

    layer.each_chunk(work)
    return found[0]


class ScoreArrays:
    """Arrays of the three statistics that threads fill channel by channel."""

    def __init__(self, *shape: int) -> None:
        self.arrays = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def put(self, channels: int | slice, pairs: Pairs) -> None:
        """Store the statistics of some channels."""
        for values, found in zip(self.arrays, (pairs.penalised, pairs.maximal, pairs.first), strict=True):
            values[channels] = found


def first_covariances(within: Float64Array, basis: SplineBasis) -> Float64Array:
    """Return the covariances of the first component's functions."""
    n_functions = basis.roughness.shape[-1]
    return within[..., :n_functions, :n_functions]


def _degrees_of_freedom(inverse: FloatArray, penalty: FloatArray) -> Float64Array:
    """Return the trace of (A + P)^-1 A, given the inverse and the diagonal of P."""
    diagonal = np.arange(penalty.shape[-1])
    degrees: Float64Array = (1.0 - (penalty + NUGGET) * inverse[..., diagonal, diagonal]).sum(axis=-1)
    return degrees
