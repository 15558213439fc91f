"""ACE for all channels of a layer, with either of two smoothers.

ACE finds transforms phi_1 ... phi_p of the predictors and theta of the response whose correlation is as large as
possible: the maximal correlation. It needs a smoother for the transforms:

- ``spline``: penalised regression splines (`pipeline.numerics.spline_ace`), for which the transforms have a closed
  form. The result is a continuous function of the data, and at a few hundred images it is more accurate.
- ``supersmoother``: Friedman's, which the `ace` package and R's acepack use (`pipeline.numerics.supersmoother_ace`).

`AceEstimator` is what both have in common: the scores of all channels by all images, by permuted class scores, by
subsets of the images, and on held-out images.

References
----------
Breiman and Friedman (1985), "Estimating optimal transformations for multiple regression and correlation", JASA 80(391).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol, assert_never

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Float64Array, FloatArray, Int64Array
from pipeline.errors import InputError, listed
from pipeline.numerics.checks import checked_predictors, checked_response
from pipeline.numerics.parameters import DEFAULT_PARAMETERS, AceParameters
from pipeline.numerics.predictors import Predictors, Transforms
from pipeline.numerics.spline_ace import (
    permuted_spline_correlations,
    spline_transforms,
)
from pipeline.numerics.spline_layer import N_FUNCTIONS
from pipeline.numerics.spline_smoothness import MIN_IMAGES_TO_CHOOSE, held_out_statistics, select_smoothness
from pipeline.numerics.spline_solver import DEFAULT_SMOOTHNESS, Smoothness
from pipeline.numerics.spline_subsets import subset_spline_correlations
from pipeline.progress import Progress

Smoother = Literal["spline", "supersmoother"]
Statistic = Literal["maximal", "first", "penalised"]
ByStatistic = Mapping[str, Float64Array]
GivenPredictors = FloatArray | Predictors

# Values in memory for the permutations or subsets that are scored together with splines.
MOST_VALUES = 2**26


@dataclass(frozen=True)
class AceResult:
    """Result of ACE for every channel.

    Attributes
    ----------
    statistics : mapping of str to ndarray of shape (n_channels,)
        ``maximal``, corr(phi_1 + ... + phi_p, theta), and ``first``, abs(corr(phi_1, theta)); with splines also
        ``penalised``, the correlation shrunk by the penalties. All are in [0, 1], and 0 where no predictor varies.
    r_squared : ndarray of shape (n_channels,)
        1 - mean((theta - phi_1 - ... - phi_p)^2).
    phi : ndarray of shape (n_channels, n_images, n_components)
        Transforms of the predictors at the images, with mean 0.
    theta : ndarray of shape (n_channels, n_images)
        Transform of the response at the images, with mean 0 and standard deviation 1.
    iterations : ndarray of shape (n_channels,) or None
        Number of outer iterations, int64; None with splines, which need none.
    degrees_of_freedom : ndarray of shape (n_channels,) or None
        Effective degrees of freedom of the regression on the predictors; None with the supersmoother.
    """

    statistics: ByStatistic
    r_squared: Float64Array
    phi: FloatArray
    theta: FloatArray
    iterations: Int64Array | None = None
    degrees_of_freedom: Float64Array | None = None

    @property
    def maximal(self) -> Float64Array:
        """corr(phi_1 + ... + phi_p, theta) of each channel."""
        return self.statistics["maximal"]

    @property
    def first(self) -> Float64Array:
        """abs(corr(phi_1, theta)) of each channel."""
        return self.statistics["first"]


class AceEstimator(Protocol):
    """ACE with one of the smoothers, its parameters given.

    In all methods, `predictors` are `Predictors`, or an array of shape (n_channels, n_images, n_components), and
    `response` is an array of shape (n_images,), as in `optimal_transforms`.
    """

    @property
    def statistics(self) -> tuple[str, ...]:
        """The statistics that it computes."""
        ...

    def fit(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        progress: Progress | None = None,
        transforms: Transforms | None = None,
    ) -> AceResult:
        """Return the transforms, which are written to `transforms` if it is given, and the statistics."""
        ...

    def permuted(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        permutations: Int64Array,
        progress: Progress | None = None,
    ) -> ByStatistic:
        """Return the statistics, (n_channels, n_permutations), for permuted responses.

        With permutation b, the response of image i is ``response[permutations[b, i]]``.
        """
        ...

    def on_subsets(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        subsets: Sequence[Int64Array],
        progress: Progress | None = None,
    ) -> ByStatistic:
        """Return the statistics, (n_channels, n_subsets), by subsets of the images, given by their indices."""
        ...

    def held_out(self, predictors: GivenPredictors, response: FloatArray, folds: Sequence[Int64Array]) -> ByStatistic:
        """Return the statistics on the images of each fold, of transforms fitted to the others.

        They have the shape (n_channels, n_folds) and are in [-1, 1].
        """
        ...


@dataclass(frozen=True)
class SupersmootherAce:
    """ACE with the supersmoother; see `AceEstimator`.

    Parameters
    ----------
    parameters : AceParameters
        Smoothness of the transforms and convergence of the iterations.
    n_threads : int or None
        Number of threads; None for one on each core. The result does not depend on it.
    """

    parameters: AceParameters = DEFAULT_PARAMETERS
    n_threads: int | None = None
    statistics: tuple[str, ...] = field(default=("maximal", "first"), init=False)

    def fit(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        progress: Progress | None = None,
        transforms: Transforms | None = None,
    ) -> AceResult:
        """Return the transforms, which are written to `transforms` if it is given, and the statistics."""
        # Imported here: the compiled solver takes a second to import, and splines do without it.
        from pipeline.numerics.supersmoother_ace import supersmoother_transforms

        found = supersmoother_transforms(
            predictors, response,
            parameters=self.parameters, n_threads=self.n_threads, progress=progress, transforms=transforms,
        )  # fmt: skip
        statistics = {"maximal": found.maximal, "first": found.first}
        return AceResult(statistics, found.r_squared, found.phi, found.theta, iterations=found.iterations)

    def permuted(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        permutations: Int64Array,
        progress: Progress | None = None,
    ) -> ByStatistic:
        """Return the statistics, (n_channels, n_permutations), for permuted responses."""
        from pipeline.numerics.supersmoother_ace import permuted_supersmoother_correlations

        maximal, first = permuted_supersmoother_correlations(
            predictors, response, permutations, parameters=self.parameters, n_threads=self.n_threads, progress=progress
        )
        return {"maximal": maximal, "first": first}

    def on_subsets(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        subsets: Sequence[Int64Array],
        progress: Progress | None = None,
    ) -> ByStatistic:
        """Return the statistics, (n_channels, n_subsets), by subsets of the images."""
        from pipeline.numerics.supersmoother_ace import supersmoother_correlations

        found, predictors = [], Predictors.of(predictors)
        for number, chosen in enumerate(subsets, start=1):
            of_subset = predictors.of_images(chosen)
            found.append(
                supersmoother_correlations(
                    of_subset, response[chosen], parameters=self.parameters, n_threads=self.n_threads
                )
            )
            if progress is not None:
                progress(number, len(subsets))
        return {name: np.stack([each[name] for each in found], axis=1) for name in self.statistics}

    def held_out(self, predictors: GivenPredictors, response: FloatArray, folds: Sequence[Int64Array]) -> ByStatistic:
        """Return the statistics on held-out images, where the transforms are interpolated linearly."""
        found = [self._held_out(predictors, response, fold) for fold in folds]
        return {name: np.stack([each[name] for each in found], axis=1) for name in self.statistics}

    def _held_out(self, predictors: GivenPredictors, response: FloatArray, held: Int64Array) -> ByStatistic:
        fitted, predictors = np.setdiff1d(np.arange(len(response)), held), Predictors.of(predictors)
        found = self.fit(predictors.of_images(fitted), response[fitted])
        maximal, first = np.zeros(len(predictors)), np.zeros(len(predictors))
        for channel in range(len(predictors)):
            (values,) = predictors.read(channel, channel + 1)
            phi = [
                _interpolated(values[held, j], values[fitted, j], found.phi[channel, :, j])
                for j in range(values.shape[1])
            ]
            theta = _interpolated(response[held], response[fitted], found.theta[channel])
            maximal[channel] = correlation(np.sum(phi, axis=0), theta)
            sign = np.sign(correlation(found.phi[channel, :, 0], found.theta[channel]))
            first[channel] = sign * correlation(phi[0], theta)
        return {"maximal": maximal, "first": first}


@dataclass(frozen=True)
class SplineAce:
    """ACE with penalised splines; see `AceEstimator`.

    Parameters
    ----------
    smoothness : Smoothness
        The same for all channels; `pipeline.numerics.spline_smoothness.select_smoothness` chooses it.
    n_threads : int or None
        Number of threads; None for one on each core. The result does not depend on it.
    """

    smoothness: Smoothness = DEFAULT_SMOOTHNESS
    n_threads: int | None = None
    statistics: tuple[str, ...] = field(default=("maximal", "first", "penalised"), init=False)

    def fit(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        progress: Progress | None = None,
        transforms: Transforms | None = None,
    ) -> AceResult:
        """Return the transforms, which are written to `transforms` if it is given, and the statistics."""
        found = spline_transforms(
            predictors, response, self.smoothness,
            n_threads=self.n_threads, progress=progress, transforms=transforms,
        )  # fmt: skip
        statistics = {name: getattr(found, name) for name in self.statistics}
        return AceResult(
            statistics, found.r_squared, found.phi, found.theta, degrees_of_freedom=found.degrees_of_freedom
        )

    def permuted(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        permutations: Int64Array,
        progress: Progress | None = None,
    ) -> ByStatistic:
        """Return the statistics, (n_channels, n_permutations), for permuted responses."""
        scores = {name: np.zeros((len(predictors), len(permutations))) for name in self.statistics}
        for block in _blocks(np.arange(len(permutations)), N_FUNCTIONS * len(response)):
            found = permuted_spline_correlations(
                predictors, response, permutations[block[0] : block[-1] + 1], self.smoothness, n_threads=self.n_threads,
                progress=_part(progress, block[0], len(block), len(permutations)),
            )  # fmt: skip
            for name, values in scores.items():
                values[:, block] = getattr(found, name)
        return scores

    def on_subsets(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        subsets: Sequence[Int64Array],
        progress: Progress | None = None,
    ) -> ByStatistic:
        """Return the statistics, (n_channels, n_subsets), by subsets of the images."""
        scores = {name: np.zeros((len(predictors), len(subsets))) for name in self.statistics}
        sizes, n_done = np.array([len(each) for each in subsets]), 0
        for size in np.unique(sizes):  # one, unless there are copies among the images
            for which in _blocks(np.flatnonzero(sizes == size), 3 * N_FUNCTIONS * len(response)):
                found = subset_spline_correlations(
                    predictors, response, np.array([subsets[each] for each in which]), self.smoothness,
                    n_threads=self.n_threads, progress=_part(progress, n_done, len(which), len(subsets)),
                )  # fmt: skip
                n_done += len(which)
                for name, values in scores.items():
                    values[:, which] = getattr(found, name)
        return scores

    def held_out(self, predictors: GivenPredictors, response: FloatArray, folds: Sequence[Int64Array]) -> ByStatistic:
        """Return the statistics on held-out images.

        ``penalised`` equals ``maximal``: the penalties shrink transforms, not their correlation on other images.
        """
        setting = predictors.shape[2], self.smoothness
        maximal, first = held_out_statistics(predictors, response, folds, setting, n_threads=self.n_threads)
        return {"maximal": maximal, "first": first, "penalised": maximal.copy()}


def _blocks(numbers: Int64Array, n_values: int) -> Iterator[Int64Array]:
    """Yield the numbers in blocks of an even size, given how many values are in memory for each of them."""
    size = max(2, MOST_VALUES // n_values // 2 * 2)
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _part(progress: Progress | None, n_before: int, n_in_block: int, n_all: int) -> Progress | None:
    """Return the progress of one of several blocks."""
    if progress is None:
        return None
    whole = progress
    return lambda done, total: whole(int(n_before) * total + done * n_in_block, total * n_all)


def ace_estimator(
    smoother: Smoother,
    predictors: ArrayLike,
    response: ArrayLike,
    *,
    parameters: AceParameters = DEFAULT_PARAMETERS,
    smoothness: Smoothness | None = None,
    seed: int = 0,
    n_threads: int | None = None,
) -> AceEstimator:
    """Return the estimator with the given smoother for some data.

    Parameters
    ----------
    smoother : {"spline", "supersmoother"}
        See the module.
    predictors : array_like of shape (n_channels, n_images, n_components)
        Finite values.
    response : array_like of shape (n_images,)
        Finite values that are not all equal; at least 5 images.
    parameters : AceParameters
        Of the supersmoother. With splines, only the default is accepted.
    smoothness : Smoothness or None
        Of the splines. None: chosen by cross-validation, pooled over the channels, or the default with fewer than 10
        images.
    seed : int
        Of the folds of that cross-validation.
    n_threads : int or None
        Number of threads; None for one on each core.

    Raises
    ------
    InputError
        If the smoother is unknown or given parameters of the other one, or if the data are refused (see
        `optimal_transforms`).
    """
    values = checked_predictors(predictors)
    checked = checked_response(response, values.shape[1])
    match smoother:
        case "supersmoother":
            if smoothness is not None:
                raise InputError("smoothness must be None with smoother='supersmoother'; set bass instead.")
            return SupersmootherAce(parameters, n_threads)
        case "spline":
            if parameters != DEFAULT_PARAMETERS:
                changed = [
                    field.name
                    for field in fields(parameters)
                    if getattr(parameters, field.name) != getattr(DEFAULT_PARAMETERS, field.name)
                ]
                raise InputError(
                    f"{listed(changed)} must be left at the default with smoother='spline', which does not use it; "
                    "set smoother='supersmoother'."
                )
            if smoothness is None and len(checked) >= MIN_IMAGES_TO_CHOOSE:
                smoothness = select_smoothness(values, checked, seed=seed, n_threads=n_threads).smoothness
            return SplineAce(smoothness or DEFAULT_SMOOTHNESS, n_threads)
        case _:
            if smoother not in ("spline", "supersmoother"):
                raise InputError(f"smoother must be 'spline' or 'supersmoother'; got {smoother!r}.")
            assert_never(smoother)


def optimal_transforms(
    predictors: ArrayLike,
    response: ArrayLike,
    *,
    smoother: Smoother = "spline",
    parameters: AceParameters = DEFAULT_PARAMETERS,
    smoothness: Smoothness | None = None,
    seed: int = 0,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> AceResult:
    """Return the optimal transforms of each channel and the correlations that they reach.

    Parameters
    ----------
    predictors : array_like of shape (n_channels, n_images, n_components)
        Finite values. A predictor that does not vary gets phi = 0.
    response : array_like of shape (n_images,)
        Finite values that are not all equal; at least 5 images.
    smoother, parameters, smoothness, seed, n_threads
        As in `ace_estimator`.
    progress : callable or None
        Called with the number of channels that are done and the number of all channels.

    Returns
    -------
    AceResult
        Statistics and transforms.

    Raises
    ------
    InputError
        If a value is not finite, the response is constant, the shapes do not match, or there are fewer than 5 images.

    Examples
    --------
    >>> import numpy as np
    >>> from pcace import optimal_transforms
    >>> rng = np.random.default_rng(0)
    >>> predictors = rng.normal(size=(4, 300, 2))  # four channels, 300 images, two components
    >>> response = predictors[2, :, 0] ** 2 + 0.1 * rng.normal(size=300)
    >>> found = optimal_transforms(predictors, response)
    >>> found.phi.shape, found.theta.shape
    ((4, 300, 2), (4, 300))
    >>> int(found.maximal.argmax())
    2
    """
    estimator = ace_estimator(
        smoother, predictors, response, parameters=parameters, smoothness=smoothness, seed=seed, n_threads=n_threads
    )
    values = checked_predictors(predictors)
    return estimator.fit(values, checked_response(response, values.shape[1]), progress)


def maximal_correlation(
    predictors: ArrayLike,
    response: ArrayLike,
    *,
    statistic: Statistic = "maximal",
    smoother: Smoother = "spline",
    parameters: AceParameters = DEFAULT_PARAMETERS,
    smoothness: Smoothness | None = None,
    seed: int = 0,
    n_threads: int | None = None,
) -> Float64Array:
    """Return the maximal correlation of each channel's predictors with the response.

    Parameters
    ----------
    predictors, response, smoother, parameters, smoothness, seed, n_threads
        As in `optimal_transforms`.
    statistic : {"maximal", "first", "penalised"}
        ``maximal`` is corr(phi_1 + ... + phi_p, theta), ``first`` is abs(corr(phi_1, theta)). ``penalised``, with
        splines only, is the correlation shrunk by the penalties.

    Returns
    -------
    ndarray of shape (n_channels,)
        The correlations, in [0, 1].

    Raises
    ------
    InputError
        As in `optimal_transforms`, or if the smoother does not have the statistic.

    Examples
    --------
    >>> import numpy as np
    >>> from pcace import maximal_correlation
    >>> rng = np.random.default_rng(0)
    >>> predictors = rng.normal(size=(4, 300, 2))
    >>> response = predictors[2, :, 0] ** 2 + 0.1 * rng.normal(size=300)
    >>> maximal_correlation(predictors, response).shape
    (4,)
    """
    found = optimal_transforms(
        predictors, response,
        smoother=smoother, parameters=parameters, smoothness=smoothness, seed=seed, n_threads=n_threads,
    )  # fmt: skip
    if statistic not in found.statistics:
        known = " or ".join(f"'{name}'" for name in found.statistics)
        raise InputError(f"statistic must be {known} with smoother='{smoother}'; got {statistic!r}.")
    return found.statistics[statistic]


def correlation(a: FloatArray, b: FloatArray) -> float:
    """Return Pearson's correlation, 0 if one of the two is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def _interpolated(at: FloatArray, x: FloatArray, values: FloatArray) -> Float64Array:
    """Return values at `at`, interpolated linearly between the points (x, values)."""
    order = np.argsort(x, kind="stable")
    result: Float64Array = np.interp(at, x[order], values[order])
    return result
