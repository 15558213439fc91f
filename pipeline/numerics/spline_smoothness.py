"""Choosing how smooth the transforms of a layer are, and how many components enter, by cross-validation.

One channel cannot tell its own smoothness from a few hundred images; the channels of a layer together can. For every
setting on a grid the transforms are fitted to all folds of the images but one, and the correlation of the transforms is
computed on that one. A setting is judged by the mean of Fisher's z over folds and channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Float64Array, Int64Array
from pipeline.errors import InputError
from pipeline.numerics.groups import Groups
from pipeline.numerics.predictors import MIN_IMAGES, Predictors
from pipeline.numerics.spline_basis import SplineBasis
from pipeline.numerics.spline_layer import N_FUNCTIONS, SplineLayer, all_functions, predictor_penalty
from pipeline.numerics.spline_solver import (
    Smoothness,
    correlation,
    curvature_penalty,
    leading_pairs,
    moments,
    regressions,
    whitener,
)

Setting = tuple[int, Smoothness]  # components that enter, and the smoothness
Grid = tuple[Sequence[float], Sequence[float], Sequence[float]]
HeldOut = Callable[..., Float64Array]  # computes what `held_out_correlations` does, from the same arguments

PREDICTORS = (0.0, 0.1, 0.3, 0.6, 0.9, 0.98)
RESPONSE = (0.0, 0.1, 0.3, 0.6, 0.9, 0.98)
SHRINKAGE = (0.0, 0.06, 0.15, 0.4)
TYPICAL = Smoothness(0.3, 0.2, 0.12)  # about the best on most layers at 300 images
COMPONENTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
MIN_IMAGES_TO_CHOOSE = 2 * MIN_IMAGES
MOST_CHANNELS = 128  # that take part in the choice, evenly spaced over the layer
MOST_VALUES = 2**25  # of their predictors: with many images, fewer channels take part, but at least the number below
FEWEST_CHANNELS = 32
CHUNK = 32  # channels worked on together; with fewer, threads wait for Python's global lock more often
LARGEST = 1 - 1e-6  # held-out correlations are limited to this before Fisher's transformation
# Penalties are averaged on a logarithmic scale, on which 0 and 1 have no place.
CURVATURE_LIMITS = (0.03, 0.98)
SMALLEST_SHRINKAGE = 0.03
SMALLEST_ERROR = 1e-9
LEAST_ERRORS = 3.0


@dataclass(frozen=True)
class SmoothnessChoice:
    """What cross-validation found, for the result and for a figure of it.

    Attributes
    ----------
    smoothness : Smoothness
        The smoothness chosen.
    is_associated : bool
        Whether the layer shows an association: the largest mean z exceeds 0 by three standard errors over the folds.
        Otherwise there is nothing to choose by, and the result is `TYPICAL` with all components.
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
    is_associated: bool
    n_components: int
    predictors: tuple[float, ...]
    response: tuple[float, ...]
    shrinkage: tuple[float, ...]
    mean_correlation: Float64Array
    standard_error: Float64Array
    weight: Float64Array
    components: tuple[int, ...]
    components_correlation: Float64Array
    components_error: Float64Array


def select_smoothness(
    predictors: ArrayLike | Predictors,
    response: ArrayLike,
    *,
    seed: int,
    groups: Groups | None = None,
    choose_components: bool = False,
    n_folds: int = 5,
    grid: Grid = (PREDICTORS, RESPONSE, SHRINKAGE),
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
    held_out: HeldOut | None = None,
) -> SmoothnessChoice:
    """Choose the smoothness for all channels of a layer, and the number of components where asked to.

    Parameters
    ----------
    predictors, response, n_functions, n_threads
        As in `spline_ace.spline_transforms`.
    seed : int
        Seed of the random partition of the images into folds.
    groups : Groups or None
        Copies among the images, which are held out together; None if all images differ.
    choose_components : bool
        Whether to choose the number of leading components too; otherwise all of them enter. The order of the
        predictors matters then, as it does for `Smoothness.shrinkage`.
    n_folds : int
        At least 2; lowered where a fold would hold fewer than 5 images.
    grid : tuple of 3 sequences of float
        Values of `Smoothness.predictors`, `response` and `shrinkage`, each rising.
    held_out : callable or None
        What judges the settings in the place of `held_out_correlations`, for example in several processes.

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
    The penalties chosen are an average over the grid, on a logarithmic scale: the maximum itself is determined poorly,
    since the mean is flat around it, and would jump with single images. A setting's weight is the product of
    ``exp(-t**2 / 2)``, where t is how far its mean z is below the best, in standard errors of that difference, and of a
    prior with heavy tails, ``(1 + d**2 / 2) ** -2``, where d is the distance from `TYPICAL` on the logarithmic scale.
    The prior decides where there is next to no association to learn from, and is overruled where there is. Measured on
    six layers of two networks, with 300 images and 3 and 10 components, the rankings agreed with the population's at
    .753 by this average, at .750 without the prior, at .747 by the maximum, and at .750 by the smoothest setting within
    one standard error of it.

    The number of components is the one with the largest mean z: the penalty on later components already guards against
    too many of them, and the smallest number within one standard error gave .730 where the best gave .737.

    The choice uses the class scores. It is one choice of a few numbers for all channels, and permutations and halves of
    the images are scored with it unchanged, because the null of one channel has to be that of the statistic that was
    computed. A choice fitted to a layer without any association would make p-values slightly too small (measured: .068
    of them at most .05); that is why there is none then.
    """
    values = judging_channels(Predictors.of(predictors))
    groups = groups or Groups.without_copies(np.size(response))
    folds = choice_folds(groups, seed, n_folds)
    judge = held_out or held_out_correlations

    def judged(settings: Sequence[Setting]) -> tuple[Float64Array, Float64Array, float]:
        """Return mean z of each setting, standard errors of the differences from the best, and the best's own."""
        held = judge(values, response, folds, settings, n_functions=n_functions, n_threads=n_threads)
        z = np.arctanh(np.clip(held, -LARGEST, LARGEST)).mean(axis=2)
        mean = z.mean(axis=1)
        best = z[mean.argmax()]
        errors = np.vstack([z - best, best]).std(axis=1, ddof=1) / np.sqrt(len(folds))
        return mean, errors[:-1], float(errors[-1])

    n_most = values.shape[2]
    predictor_axis, response_axis, shrinkage_axis = (tuple(float(value) for value in axis) for axis in grid)
    axes = predictor_axis, response_axis, shrinkage_axis
    settings = grid_settings(n_most, axes)
    shape = len(axes[2]), len(axes[0]), len(axes[1])
    mean, error, own_error = judged(settings)
    places = np.array([_penalties(each) for _, each in settings])
    # The best setting has an error of 0, and those that are all but the same have next to none.
    behind = (mean.max() - mean) / np.maximum(error, SMALLEST_ERROR)
    log_weight = -(behind**2) / 2 - 2 * np.log1p(np.square(places - _penalties(TYPICAL)).sum(axis=1) / 2)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    is_associated = bool(mean.max() > LEAST_ERRORS * own_error)
    chosen = _smoothness_at(weight @ places) if is_associated else TYPICAL

    fewer = [n for n in COMPONENTS if n < n_most] if choose_components else []
    numbers = (*fewer, n_most)
    z, z_error, _ = judged([(n, chosen) for n in numbers])
    return SmoothnessChoice(
        smoothness=chosen,
        is_associated=is_associated,
        n_components=numbers[int(z.argmax())] if is_associated else n_most,
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


def judging_channels(values: Predictors) -> Predictors:
    """Return the predictors of the channels that take part in the choice; if not all do, they are evenly spaced."""
    n_channels = max(FEWEST_CHANNELS, min(MOST_CHANNELS, MOST_VALUES // (values.shape[1] * values.shape[2])))
    if len(values) <= n_channels:
        return values
    return values.of_channels(np.linspace(0, len(values) - 1, n_channels).astype(np.int64))


def choice_folds(groups: Groups, seed: int, n_folds: int = 5) -> list[Int64Array]:
    """Return the images of each fold of the choice, in ascending order.

    Raises
    ------
    InputError
        If fewer than 10 images differ.
    """
    if len(groups) < MIN_IMAGES_TO_CHOOSE:
        raise InputError(
            f"n_images must be at least {MIN_IMAGES_TO_CHOOSE} to choose the smoothness; got {len(groups)}. "
            "Set it yourself."
        )
    order = np.random.default_rng([seed, 4]).permutation(len(groups))
    n_folds = max(2, min(n_folds, len(groups) // MIN_IMAGES))
    return [np.sort(groups.images(fold)) for fold in np.array_split(order, n_folds)]


def grid_settings(n_components: int, grid: Grid = (PREDICTORS, RESPONSE, SHRINKAGE)) -> list[Setting]:
    """Return the settings of a grid, each with `n_components` components."""
    predictors, response, shrinkage = grid
    return [(n_components, Smoothness(x, y, each)) for each, x, y in product(shrinkage, predictors, response)]


def _penalties(smoothness: Smoothness) -> Float64Array:
    """Return the coordinates in which smoothness is averaged: logarithms of the three penalties, (3,)."""
    kept = np.clip([smoothness.predictors, smoothness.response], *CURVATURE_LIMITS)
    return np.array([*np.log(kept / (1 - kept)), np.log(smoothness.shrinkage + SMALLEST_SHRINKAGE)])


def _smoothness_at(place: Float64Array) -> Smoothness:
    """Return the smoothness with these `_penalties`; what lies at a limit is 0 or 1."""
    low, high = CURVATURE_LIMITS
    kept = 1 / (1 + np.exp(-place[:2]))
    kept = np.where(kept <= low * (1 + 1e-9), 0.0, np.where(kept >= high * (1 - 1e-9), 1.0, kept))
    return Smoothness(float(kept[0]), float(kept[1]), max(0.0, float(np.exp(place[2])) - SMALLEST_SHRINKAGE))


def held_out_correlations(
    predictors: ArrayLike | Predictors,
    response: ArrayLike,
    folds: Sequence[Int64Array],
    settings: Sequence[Setting],
    *,
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
) -> Float64Array:
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
    found: Float64Array = _held_out(layer, folds, settings, with_first=False)[0]
    return found


def held_out_statistics(
    predictors: ArrayLike | Predictors,
    response: ArrayLike,
    folds: Sequence[Int64Array],
    setting: Setting,
    *,
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
) -> tuple[Float64Array, Float64Array]:
    """Return two correlations on each fold for one setting, computed with the same functions and transforms.

    Parameters
    ----------
    predictors, response, folds, n_functions, n_threads
        As in `held_out_correlations`.
    setting : (int, Smoothness)
        The number of leading components that enter, and the smoothness.

    Returns
    -------
    maximal : ndarray of shape (n_channels, n_folds)
        As `held_out_correlations`.
    first : ndarray of shape (n_channels, n_folds)
        The correlation of phi_1 alone with theta, with the sign that makes it positive on the images fitted to.
    """
    layer = SplineLayer(predictors, response, n_functions, n_threads)
    maximal, first = _held_out(layer, folds, [setting], with_first=True)[:, 0]
    return maximal.T, first.T


def _held_out(
    layer: SplineLayer,
    folds: Sequence[Int64Array],
    settings: Sequence[Setting],
    *,
    with_first: bool,
) -> Float64Array:
    """Return the correlations of all components, and of the first alone, (1 or 2, n_settings, n_folds, n_channels)."""
    n_functions = layer.n_functions
    found = np.zeros((1 + with_first, len(settings), len(folds), layer.n_channels))
    values = layer.response.values
    fitted = [np.setdiff1d(np.arange(layer.n_images), fold) for fold in folds]
    own = [(moments(values[:, rest], values[:, rest])[0], moments(values[:, fold], values[:, fold])[0])
           for rest, fold in zip(fitted, folds, strict=True)]  # fmt: skip
    batches = _batches(settings, n_functions)
    of_response = [
        np.array([[curvature_penalty(layer.response.roughness, settings[each][1].response) for each in row]
                  for row in members])
        for _, members in batches
    ]  # fmt: skip
    # With an axis for the channels.
    sides = [[(penalty[:, :, None], whitener(covariance, penalty)[:, :, None]) for penalty in of_response]
             for covariance, _ in own]  # fmt: skip

    def work(first: int, basis: SplineBasis) -> None:
        functions, channels = all_functions(basis), slice(first, first + len(basis.values))
        penalties = [
            np.array([predictor_penalty(basis, settings[each][1])[:, :n_used] for each in members[:, 0]])
            for n_used, members in batches
        ]
        for fold, (rest, held) in enumerate(zip(fitted, folds, strict=True)):
            within, cross = moments(functions[:, :, rest], values[:, rest])
            held_within, held_cross = moments(functions[:, :, held], values[:, held])
            for (n_used, members), penalty, response_side in zip(batches, penalties, sides[fold], strict=True):
                used = slice(n_used)
                solved = regressions(within[:, used, used], penalty, cross[:, used])[:, None]
                pairs = leading_pairs(cross[:, used], solved, penalty[:, None], *response_side, within[:, :1, :1])
                a, b, on_fold = pairs.predictors, pairs.response, (held_within[:, used, used], held_cross[:, used])
                found[0, members, fold, channels] = _correlations(a, b, *on_fold, own[fold][1])
                if with_first:
                    a[..., n_functions:] = 0.0
                    a *= np.sign((a * (cross[:, used] @ b[..., None])[..., 0]).sum(axis=-1, keepdims=True))
                    found[1, members, fold, channels] = _correlations(a, b, *on_fold, own[fold][1])

    layer.each_chunk(work, chunk=CHUNK)
    return found


def _batches(settings: Sequence[Setting], n_functions: int) -> list[tuple[int, Int64Array]]:
    """Return settings that are computed together: the number of their functions and their places in `settings`.

    Those in a row differ in the response's smoothness alone, and share the regression on the predictors.
    """
    rows: dict[tuple[int, float, float], list[int]] = {}
    for number, (n_components, each) in enumerate(settings):
        rows.setdefault((n_components, each.shrinkage, each.predictors), []).append(number)
    alike: dict[tuple[int, float, int], list[list[int]]] = {}
    for (n_components, shrinkage, _), row in rows.items():
        alike.setdefault((n_components, shrinkage, len(row)), []).append(row)
    return [(n * n_functions, np.array(some)) for (n, _, _), some in alike.items()]


def _correlations(
    a: Float64Array, b: Float64Array, within: Float64Array, cross: Float64Array, response_within: Float64Array
) -> Float64Array:
    """Return the correlations of the combinations with coefficients `a`, (..., q), and `b`, (..., k)."""
    covariance = (a * (cross @ b[..., None])[..., 0]).sum(axis=-1)
    phi_variance = (a * (within @ a[..., None])[..., 0]).sum(axis=-1)
    theta_variance = (b * (b @ response_within)).sum(axis=-1)
    return correlation(covariance, phi_variance, theta_variance)
