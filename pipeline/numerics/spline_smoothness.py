"""Choosing how smooth the transforms of a layer are, and how many components enter, by cross-validation.

One channel cannot tell its own smoothness from a few hundred images; the channels of a layer together can. For every
setting on a grid the transforms are fitted to all folds of the images but one, and the correlation of the transforms is
computed on that one. A setting is judged by the mean of Fisher's z over folds and channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import InputError
from pipeline.numerics.spline_basis import SplineBasis
from pipeline.numerics.spline_layer import MIN_IMAGES, N_FUNCTIONS, SplineLayer, all_functions, predictor_penalty
from pipeline.numerics.spline_solver import Smoothness, correlation, leading_pairs, moments, penalised

FloatArray = NDArray[np.floating[Any]]
Vector = NDArray[np.float64]
Setting = tuple[int, Smoothness]  # components that enter, and the smoothness

PREDICTORS = (0.0, 0.1, 0.3, 0.6, 0.9, 0.98)
RESPONSE = (0.0, 0.1, 0.3, 0.6, 0.9, 0.98)
SHRINKAGE = (0.0, 0.06, 0.15, 0.4)
COMPONENTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
MOST_CHANNELS = 128  # that take part in the choice, evenly spaced over the layer
CHUNK = 16  # channels worked on together
LARGEST = 1 - 1e-6  # held-out correlations are limited to this before Fisher's transformation
# Penalties are averaged on a logarithmic scale, on which 0 and 1 have no place.
CURVATURE_LIMITS = (0.03, 0.98)
SMALLEST_SHRINKAGE = 0.03


@dataclass(frozen=True)
class SmoothnessChoice:
    """What cross-validation found, for the result and for a figure of it.

    Attributes
    ----------
    smoothness : Smoothness
        The smoothness chosen.
    n_components : int
        The number of leading components chosen.
    predictors, response, shrinkage : tuple of float
        The grid.
    mean_correlation : ndarray of shape (n_shrinkage, n_predictors, n_response)
        Mean held-out correlation with the largest number of components, in [-1, 1]: the hyperbolic tangent of the mean
        of Fisher's z over folds and channels.
    standard_error : ndarray of shape (n_shrinkage, n_predictors, n_response)
        Standard error over the folds of the difference from the best setting, in units of Fisher's z.
    weight : ndarray of shape (n_shrinkage, n_predictors, n_response)
        Weight of each setting in the choice; the sum is 1.
    components : tuple of int
        Numbers of components that were compared.
    components_correlation, components_error : ndarray of shape (n_numbers,)
        The same as `mean_correlation` and `standard_error` for these, at the smoothness chosen.
    """

    smoothness: Smoothness
    n_components: int
    predictors: tuple[float, ...]
    response: tuple[float, ...]
    shrinkage: tuple[float, ...]
    mean_correlation: Vector
    standard_error: Vector
    weight: Vector
    components: tuple[int, ...]
    components_correlation: Vector
    components_error: Vector


def select_smoothness(
    predictors: ArrayLike,
    response: ArrayLike,
    *,
    seed: int,
    choose_components: bool = False,
    n_folds: int = 5,
    grid: tuple[Sequence[float], Sequence[float], Sequence[float]] = (PREDICTORS, RESPONSE, SHRINKAGE),
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
) -> SmoothnessChoice:
    """Choose the smoothness for all channels of a layer, and the number of components where asked to.

    Parameters
    ----------
    predictors, response, n_functions, n_threads
        As in `spline_ace.spline_transforms`.
    seed : int
        Seed of the random partition of the images into folds.
    choose_components : bool
        Whether to choose the number of leading components too; otherwise all of them enter. The order of the
        predictors matters then, as it does for `Smoothness.shrinkage`.
    n_folds : int
        At least 2; lowered where a fold would hold fewer than 5 images.
    grid : tuple of 3 sequences of float
        Values of `Smoothness.predictors`, `response` and `shrinkage`, each rising.

    Returns
    -------
    SmoothnessChoice
        The choice and what it rests on.

    Raises
    ------
    InputError
        If the predictors or the response are refused by `spline_ace.spline_transforms`, or there are fewer than 10
        images.

    Notes
    -----
    The penalties chosen are an average over the grid, on a logarithmic scale. A setting's weight falls exponentially
    with how far its mean z is below the best, in units of the standard error of that difference. The maximum itself is
    determined poorly, since the mean is flat around it, and would jump with single images; an average does not. Where
    nothing is associated all settings weigh alike, and a moderate smoothness results. The number of components is the
    smallest whose mean z is within one standard error of the best (Breiman, Friedman, Olshen and Stone, 1984).

    The choice uses the class scores. It is one choice of three numbers for all channels, so that permutations and
    halves of the images are scored with it unchanged: p-values stay uniform under independence.
    """
    values = np.asarray(predictors, dtype=np.float64)
    if values.ndim == 3 and len(values) > MOST_CHANNELS:
        values = values[np.linspace(0, len(values) - 1, MOST_CHANNELS).astype(np.int64)]
    n_images = np.size(response)
    if n_images < 2 * MIN_IMAGES:
        raise InputError(
            f"n_images must be at least {2 * MIN_IMAGES} to choose the smoothness; got {n_images}. Set it yourself."
        )
    order = np.random.default_rng([seed, 4]).permutation(n_images)
    folds = [np.sort(fold) for fold in np.array_split(order, max(2, min(n_folds, n_images // MIN_IMAGES)))]

    def judged(settings: Sequence[Setting]) -> tuple[Vector, Vector]:
        """Return mean z of each setting, and the standard error of its difference from the best."""
        held = held_out_correlations(values, response, folds, settings, n_functions=n_functions, n_threads=n_threads)
        z = np.arctanh(np.clip(held, -LARGEST, LARGEST)).mean(axis=2)
        mean = z.mean(axis=1)
        difference = z - z[mean.argmax()]
        return mean, difference.std(axis=1, ddof=1) / np.sqrt(len(folds))

    n_most = values.shape[2] if values.ndim == 3 else 0
    axes = tuple(tuple(float(value) for value in axis) for axis in grid)
    settings = [Smoothness(x, y, shrinkage) for shrinkage, x, y in product(axes[2], axes[0], axes[1])]
    shape = len(axes[2]), len(axes[0]), len(axes[1])
    mean, error = judged([(n_most, each) for each in settings])
    typical = float(np.median(error))
    weight = np.exp(-(mean.max() - mean) / typical) if typical > 0 else (mean == mean.max()).astype(np.float64)
    weight /= weight.sum()
    chosen = _averaged(settings, weight)

    fewer = [n for n in COMPONENTS if n < n_most] if choose_components else []
    numbers = (*fewer, n_most)
    z, z_error = judged([(n, chosen) for n in numbers])
    n_components = numbers[int(np.flatnonzero(z >= z.max() - z_error)[0])]
    return SmoothnessChoice(
        smoothness=chosen,
        n_components=n_components,
        predictors=axes[0],
        response=axes[1],
        shrinkage=axes[2],
        mean_correlation=np.tanh(mean).reshape(shape),
        standard_error=error.reshape(shape),
        weight=weight.reshape(shape),
        components=numbers,
        components_correlation=np.tanh(z),
        components_error=z_error,
    )


def _averaged(settings: Sequence[Smoothness], weight: Vector) -> Smoothness:
    """Return the weighted mean of the settings' penalties, on a logarithmic scale."""

    def curvature(values: list[float]) -> float:
        kept = np.clip(values, *CURVATURE_LIMITS)
        mean = float(weight @ np.log(kept / (1 - kept)))
        low, high = CURVATURE_LIMITS
        found = float(1 / (1 + np.exp(-mean)))
        return 0.0 if found <= low * (1 + 1e-9) else 1.0 if found >= high else found

    shrinkage = float(np.exp(weight @ np.log(np.array([each.shrinkage for each in settings]) + SMALLEST_SHRINKAGE)))
    return Smoothness(
        curvature([each.predictors for each in settings]),
        curvature([each.response for each in settings]),
        max(0.0, shrinkage - SMALLEST_SHRINKAGE),
    )


def held_out_correlations(
    predictors: ArrayLike,
    response: ArrayLike,
    folds: Sequence[NDArray[np.int64]],
    settings: Sequence[Setting],
    *,
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
) -> Vector:
    """Return corr(sum of phi, theta) on each fold, of transforms fitted to the images outside of it.

    The functions of all images are used, whose knots do not depend on which class score belongs to which image.

    Parameters
    ----------
    predictors, response, n_functions, n_threads
        As in `spline_ace.spline_transforms`.
    folds : sequence of ndarray of int64
        Indices of the images of each fold.
    settings : sequence of (int, Smoothness)
        The number of leading components that enter, and the smoothness.

    Returns
    -------
    ndarray of shape (n_settings, n_folds, n_channels)
        In [-1, 1]; 0 where a transform does not vary on the fold.
    """
    layer = SplineLayer(predictors, response, n_functions, n_threads)
    found = np.zeros((len(settings), len(folds), layer.n_channels))
    values = layer.response.values
    fitted = [np.setdiff1d(np.arange(layer.n_images), fold) for fold in folds]
    own = [(moments(values[:, rest], values[:, rest])[0], moments(values[:, fold], values[:, fold])[0])
           for rest, fold in zip(fitted, folds, strict=True)]  # fmt: skip
    # Settings that differ in the response's smoothness alone share the regression on the predictors.
    shared: dict[tuple[int, float, float], list[int]] = {}
    for number, (n_components, each) in enumerate(settings):
        shared.setdefault((n_components, each.predictors, each.shrinkage), []).append(number)

    def side(fold: int, members: Sequence[int]) -> tuple[Vector, Vector]:
        """Return the response's penalties and whiteners for settings, with an axis for the channels."""
        each = [layer.response_side(settings[member][1], own[fold][0]) for member in members]
        return np.array([penalty for penalty, _ in each])[:, None], np.array([white for _, white in each])[:, None]

    sides = {(fold, key): side(fold, members) for fold in range(len(folds)) for key, members in shared.items()}

    def work(first: int, basis: SplineBasis) -> None:
        functions, channels = all_functions(basis), slice(first, first + len(basis.values))
        for fold, (rest, held) in enumerate(zip(fitted, folds, strict=True)):
            within, cross = moments(functions[:, :, rest], values[:, rest])
            held_within, held_cross = moments(functions[:, :, held], values[:, held])
            for key, members in shared.items():
                used = slice(key[0] * n_functions)
                penalty = predictor_penalty(basis, settings[members[0]][1])[:, used]
                solved = np.linalg.solve(penalised(within[:, used, used], penalty), cross[:, used])
                pairs = leading_pairs(cross[:, used], solved, penalty, *sides[fold, key], within[:, :1, :1])
                found[members, fold, channels] = _held_out(
                    pairs.predictors, pairs.response, held_within[:, used, used], held_cross[:, used], own[fold][1]
                )

    layer.each_chunk(work, chunk=CHUNK)
    return found


def _held_out(a: Vector, b: Vector, within: Vector, cross: Vector, response_within: Vector) -> Vector:
    """Return the correlations of the combinations with coefficients `a`, (..., q), and `b`, (..., k)."""
    covariance = (a * (cross @ b[..., None])[..., 0]).sum(axis=-1)
    phi_variance = (a * (within @ a[..., None])[..., 0]).sum(axis=-1)
    theta_variance = (b * (b @ response_within)).sum(axis=-1)
    return correlation(covariance, phi_variance, theta_variance)
