"""How sure a channel's maximal correlation is: a permutation null, cross-fitting, random halves.

The raw number is biased upwards, the more so the more components and the fewer images; each of these says by how much.
All of them draw once for all channels, so that channels can be compared, and from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control, norm, rankdata

from pipeline.arrays import Float64Array, FloatArray, Int64Array
from pipeline.numerics.ace import optimal_transforms, permuted_correlations
from pipeline.numerics.parameters import DEFAULT_PARAMETERS, AceParameters
from pipeline.numerics.supersmoother import MIN_POINTS

Both = Mapping[str, FloatArray]  # by statistic: "maximal" and "first", (n_channels,) each
Scorer = Callable[[Int64Array], Both]  # of some of the images, by their indices
Tick = Callable[[], None]

CONFIDENCE = 0.95
RELIABLE = 0.9  # what `images_for` aims at
N_CURVE_PAIRS = 20


@dataclass(frozen=True)
class Null:
    """What each channel's statistic is when images and class scores are paired at random.

    Attributes
    ----------
    mean, deviation : ndarray of shape (n_channels,)
        Of the statistic over the permutations.
    p_value : ndarray of shape (n_channels,)
        (1 + number of permutations that reach the observed statistic) / (1 + permutations).
    q_value : ndarray of shape (n_channels,)
        The false share to expect among the channels at or below it: Benjamini and Hochberg's adjustment of p-values
        against the null deviations of all channels together. A channel's own 200 permutations tell apart nothing below
        1/201, which over some hundred channels is never small enough.
    p_family : ndarray of shape (n_channels,)
        The same as `p_value`, against the largest statistic of all channels in each permutation (Westfall and Young).
    """

    mean: Float64Array
    deviation: Float64Array
    p_value: Float64Array
    q_value: Float64Array
    p_family: Float64Array


@dataclass(frozen=True)
class Halves:
    """What random halves of the images say.

    Attributes
    ----------
    scores : ndarray of shape (n_halves, n_channels)
        Of each half.
    rank_low, rank_high : ndarray of shape (n_channels,)
        The middle 95 % of the channel's rank, 1 the best.
    top_k_chance : ndarray of shape (n_channels,)
        Share of the halves in which the channel is among the best k.
    curve : ndarray of shape (n_sizes, 2)
        Images, and the mean Spearman correlation of the rankings by two disjoint sets of so many; the last row: halves.
    """

    scores: Float64Array
    rank_low: Float64Array
    rank_high: Float64Array
    top_k_chance: Float64Array
    curve: Float64Array

    @property
    def columns(self) -> dict[str, Float64Array]:
        """What is said of each channel, by name."""
        return {"rank_low": self.rank_low, "rank_high": self.rank_high, "top_k_chance": self.top_k_chance}


def permutation_null(
    predictors: FloatArray,
    response: FloatArray,
    observed: Both,
    n_permutations: int,
    *,
    seed: int,
    tick: Tick = lambda: None,
    parameters: AceParameters = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
) -> dict[str, Null]:
    """Return the null of each channel's statistics under permuted responses, the same for all channels.

    Parameters
    ----------
    predictors : ndarray of shape (n_channels, n_images, n_components)
        Of living channels.
    response : ndarray of shape (n_images,)
        Class scores.
    observed : mapping of str to ndarray of shape (n_channels,)
        Both statistics, as the unpermuted response gives them.
    n_permutations : int
        The smallest p-value is 1 / (1 + this).
    seed : int
        Of the permutations.
    tick : callable
        Called once for each permutation's worth of work.
    parameters, n_threads
        As in `pipeline.numerics.ace.optimal_transforms`.

    References
    ----------
    Phipson and Smyth (2010), "Permutation p-values should never be zero"; Westfall and Young (1993); Storey and
    Tibshirani (2003), "Statistical significance for genomewide studies" (the null of all tests together).
    """
    rng = np.random.default_rng([seed, 1])
    permutations = np.array([rng.permutation(len(response)) for _ in range(n_permutations)])
    ticked = 0

    def progress(done: int, total: int) -> None:
        nonlocal ticked
        while ticked < n_permutations * done // total:
            ticked += 1
            tick()

    maximal, first = permuted_correlations(
        predictors, response, permutations, parameters=parameters, n_threads=n_threads, progress=progress
    )
    return {"maximal": _null(observed["maximal"], maximal), "first": _null(observed["first"], first)}


def _null(observed: FloatArray, null: FloatArray) -> Null:
    """Compare ``observed``, (n_channels,), with ``null``, (n_channels, n_permutations)."""
    n_permutations = null.shape[1]
    mean, deviation = null.mean(axis=1), null.std(axis=1)
    p_value = (1 + (null >= observed[:, None]).sum(axis=1)) / (1 + n_permutations)
    scale = np.where(deviation > 0, deviation, 1.0)
    pooled = np.sort(((null - mean[:, None]) / scale[:, None]).ravel())
    n_reached = len(pooled) - np.searchsorted(pooled, (observed - mean) / scale, side="left")
    return Null(
        mean=mean,
        deviation=deviation,
        p_value=p_value,
        q_value=false_discovery_control((1 + n_reached) / (1 + len(pooled)), method="bh"),
        p_family=(1 + (null.max(axis=0) >= observed[:, None]).sum(axis=1)) / (1 + n_permutations),
    )


def cross_fitted(
    predictors: FloatArray,
    response: FloatArray,
    n_folds: int,
    *,
    seed: int,
    n_repeats: int = 1,
    tick: Tick = lambda: None,
    parameters: AceParameters = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
) -> dict[str, Float64Array]:
    """Return both statistics of each channel on images its transforms were not fitted to, (n_channels,), in [-1, 1].

    The transforms are fitted on all folds but one and read at the images of that one, by straight lines between the
    values seen; the correlations are averaged over the folds. Near 0 where nothing is there, and somewhat below
    the truth elsewhere, since fewer images are fitted to. The components themselves are of all images.

    Parameters
    ----------
    predictors, response, tick, parameters, n_threads
        As in `permutation_null`.
    n_folds : int
        At least 2; each must leave 5 images to fit to and hold 3 to read at.
    seed : int
        Of the folds.
    n_repeats : int
        Random partitions into folds, averaged over.
    """
    rng = np.random.default_rng([seed, 2])
    total = {"maximal": np.zeros(len(predictors)), "first": np.zeros(len(predictors))}
    for _ in range(n_repeats):
        for held_out in np.array_split(rng.permutation(len(response)), n_folds):
            is_fitted = np.ones(len(response), dtype=bool)
            is_fitted[held_out] = False
            found = optimal_transforms(
                predictors[:, is_fitted], response[is_fitted], parameters=parameters, n_threads=n_threads
            )
            for channel, values in enumerate(predictors):
                phi = [
                    _interpolated(values[held_out, j], values[is_fitted, j], found.phi[channel, :, j])
                    for j in range(values.shape[1])
                ]
                theta = _interpolated(response[held_out], response[is_fitted], found.theta[channel])
                total["maximal"][channel] += _correlation(np.sum(phi, axis=0), theta)
                sign = np.sign(_correlation(found.phi[channel, :, 0], found.theta[channel]))
                total["first"][channel] += sign * _correlation(phi[0], theta)
            tick()
    return {name: values / (n_folds * n_repeats) for name, values in total.items()}


def halves(
    scorer: Scorer, n_images: int, n_halves: int, *, seed: int, top_k: int, tick: Tick = lambda: None
) -> dict[str, Halves]:
    """Return each channel's scores and ranks by random halves of the images, and how far the halves' rankings agree.

    Parameters
    ----------
    scorer : callable
        From indices of images, rising, to each channel's scores, by statistic.
    n_images : int
        All there are.
    n_halves : int
        Even: each random half goes with the other half of the same images.
    seed : int
        Of the halves.
    top_k : int
        What `top_k_chance` counts.
    tick : callable
        Called once for each pair of halves.

    Notes
    -----
    A bootstrap with replacement would repeat images, and ACE, fitted to ties, explains them too well: at 300 images and
    three components its replicates of a true .60 average .77. A half drawn without replacement deviates from the whole
    as the whole does from the population (the delete-half jackknife, Shao and Wu, 1989), and shows the bias at half the
    images, from which `corrected` works out that at all of them.
    """
    rng = np.random.default_rng([seed, 3])

    def scored(size: int, n_pairs: int, tick: Tick) -> list[tuple[Both, Both]]:
        """Return both statistics by pairs of disjoint random sets of `size` images."""
        pairs: list[tuple[Both, Both]] = []
        for _ in range(n_pairs):
            drawn = rng.permutation(n_images)
            pairs.append((scorer(np.sort(drawn[:size])), scorer(np.sort(drawn[size : 2 * size]))))
            tick()
        return pairs

    by_size = {n_images // 2: scored(n_images // 2, n_halves // 2, tick)}
    for size in (n_images // 4, n_images // 8):
        if size >= 2 * MIN_POINTS:
            by_size[size] = scored(size, min(N_CURVE_PAIRS, n_halves // 2), lambda: None)
    statistics = by_size[n_images // 2][0][0]
    return {name: _halves(name, by_size, top_k) for name in statistics}


def _halves(name: str, by_size: Mapping[int, list[tuple[Both, Both]]], top_k: int) -> Halves:
    """Sum up what sets of images say of one statistic."""
    found = np.array([each[name] for pair in by_size[max(by_size)] for each in pair])
    ranks = np.array([rankdata(-each, method="ordinal") for each in found])
    tail = 100 * (1 - CONFIDENCE) / 2
    agreement = {
        size: np.mean([_spearman(one[name], other[name]) for one, other in pairs]) for size, pairs in by_size.items()
    }
    return Halves(
        scores=found,
        rank_low=np.percentile(ranks, tail, axis=0, method="closest_observation"),
        rank_high=np.percentile(ranks, 100 - tail, axis=0, method="closest_observation"),
        top_k_chance=(ranks <= top_k).mean(axis=0),
        curve=np.array(sorted(agreement.items())),
    )


def corrected(observed: FloatArray, at_half: FloatArray) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return the population's correlation as estimated without bias, and the ends of its 95 % interval.

    A fit with d effective parameters for each image leaves ``1 - R^2 = (1 - r^2) (1 - d)`` on average, and at half the
    images ``(1 - r^2) (1 - 2 d)``. The two give d, and so r.

    Parameters
    ----------
    observed : ndarray of shape (n_channels,)
        Correlation with all images.
    at_half : ndarray of shape (n_halves, n_channels)
        Correlation with halves of them.
    """
    left, left_at_half = 1 - observed**2, 1 - at_half**2
    share = np.clip(left_at_half.mean(axis=0) / np.maximum(left, 1e-12), 0, 1)
    per_image = (1 - share) / (2 - share)
    centre = 1 - left / (1 - per_image)
    reach = norm.ppf((1 + CONFIDENCE) / 2) * left_at_half.std(axis=0) / (1 - per_image)
    roots = [np.sqrt(np.clip(value, 0, 1)) for value in (centre, centre - reach, centre + reach)]
    return roots[0], roots[1], roots[2]


def reliability(at_half: float) -> float:
    """Return the reliability with all images, given that of halves: Spearman and Brown's formula."""
    return 2 * at_half / (1 + at_half) if at_half > 0 else at_half


def images_for(n_images: int, reliable: float, goal: float = RELIABLE) -> float:
    """Return about how many images bring the reliability `reliable`, at `n_images`, to `goal`; infinite if it is 0."""
    return n_images * goal * (1 - reliable) / (reliable * (1 - goal)) if reliable > 0 else float("inf")


def _interpolated(at: FloatArray, x: FloatArray, values: FloatArray) -> Float64Array:
    order = np.argsort(x, kind="stable")
    result: Float64Array = np.interp(at, x[order], values[order])
    return result


def _correlation(a: FloatArray, b: FloatArray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def _spearman(a: FloatArray, b: FloatArray) -> float:
    """Return the rank correlation, 1 for a single channel."""
    return _correlation(rankdata(a), rankdata(b)) if len(a) > 1 else 1.0
