"""Statistical evidence for maximal correlations: permutation null, cross-fitting, and random halves of the images.

The maximal correlation is biased upwards, more so with more components and fewer images, and each of these methods
estimates by how much. Random draws are the same for all channels, so that channels can be compared, and are determined
by a seed. Where images are copies of one another, the draws take all copies together, see `pipeline.numerics.groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from pipeline.arrays import Float64Array, FloatArray, Int64Array
from pipeline.numerics.ace import AceEstimator, ByStatistic, correlation
from pipeline.numerics.groups import Groups
from pipeline.numerics.predictors import MIN_IMAGES, Predictors
from pipeline.numerics.rank_statistics import false_discovery_rates, mean_ranks
from pipeline.progress import Progress

Scorer = Callable[[Sequence[Int64Array], Progress], ByStatistic]
"""From sets of images, by their indices in increasing order, to the scores by statistic, (n_channels, n_sets); the
second argument is called with the number of sets that are done and the number of all sets.
"""
Tick = Callable[[], None]

CONFIDENCE = 0.95
RELIABLE = 0.9  # the reliability that `images_for` aims at
N_CURVE_PAIRS = 20  # pairs of sets of images for each size below half, at most


@dataclass(frozen=True)
class Null:
    """Permutation null of a statistic: its distribution when class scores are assigned to images at random.

    Attributes
    ----------
    mean, deviation : ndarray of shape (n_channels,)
        Mean and standard deviation of the statistic over the permutations.
    p_value : ndarray of shape (n_channels,)
        (1 + number of permutations that reach the observed statistic) / (1 + number of permutations).
    p_pooled : ndarray of shape (n_channels,)
        As `p_value`, but a channel's standardised statistic is compared with the standardised null of all channels
        together, since a channel's own 200 permutations give no p-value below 1/201, which is never small enough for
        some hundred channels.
    q_value : ndarray of shape (n_channels,)
        False discovery rate among the channels with this q-value or a smaller one, by Benjamini and Hochberg's method,
        from `p_pooled`.
    p_family : ndarray of shape (n_channels,)
        Family-wise p-value: as `p_value`, but compared with the largest statistic of all channels in each permutation
        (Westfall and Young).
    """

    mean: Float64Array
    deviation: Float64Array
    p_value: Float64Array
    p_pooled: Float64Array
    q_value: Float64Array
    p_family: Float64Array


@dataclass(frozen=True)
class Halves:
    """Scores and ranks of the channels on random halves of the images.

    Attributes
    ----------
    scores : ndarray of shape (n_halves, n_channels)
        Scores on each half.
    rank_low, rank_high : ndarray of shape (n_channels,)
        Bounds of the central 95 % of the channel's ranks; 1 is the best rank.
    top_k_chance : ndarray of shape (n_channels,)
        Share of the halves in which the channel is among the first k.
    curve : ndarray of shape (n_sizes, 2)
        Reliability by number of images: each row has a number of images and the mean Spearman correlation between the
        rankings by two disjoint sets of that size. The last row is that of the halves (split-half reliability).
    """

    scores: Float64Array
    rank_low: Float64Array
    rank_high: Float64Array
    top_k_chance: Float64Array
    curve: Float64Array

    @property
    def columns(self) -> dict[str, Float64Array]:
        """The results that have one value for each channel, by name."""
        return {"rank_low": self.rank_low, "rank_high": self.rank_high, "top_k_chance": self.top_k_chance}


def permutation_null(
    estimator: AceEstimator,
    predictors: FloatArray | Predictors,
    response: FloatArray,
    observed: ByStatistic,
    n_permutations: int,
    *,
    seed: int,
    groups: Groups | None = None,
    tick: Tick = lambda: None,
) -> dict[str, Null]:
    """Return the permutation null of the statistics of each channel; the permutations are the same for all channels.

    Parameters
    ----------
    estimator : AceEstimator
        What computes the statistics, with the same parameters as for the observed ones.
    predictors : Predictors, or ndarray of shape (n_channels, n_images, n_components)
        Projections of the channels that are not dead.
    response : ndarray of shape (n_images,)
        Class scores.
    observed : mapping of str to ndarray of shape (n_channels,)
        The statistics for the response without permutation.
    n_permutations : int
        Number of permutations B; the smallest possible p-value is 1 / (1 + B).
    seed : int
        Seed of the permutations.
    groups : Groups or None
        Copies among the images, which keep equal class scores; None if all images differ.
    tick : callable
        Called `n_permutations` times, as the work proceeds.

    References
    ----------
    Phipson and Smyth (2010), "Permutation p-values should never be zero"; Westfall and Young (1993); Storey and
    Tibshirani (2003), "Statistical significance for genomewide studies" (the null of all tests together).
    """
    rng = np.random.default_rng([seed, 1])
    groups = groups or Groups.without_copies(len(response))
    permutations = np.array([groups.permutation(rng) for _ in range(n_permutations)])
    null = estimator.permuted(predictors, response, permutations, _ticks(tick, n_permutations))
    return {name: _null(values, null[name]) for name, values in observed.items()}


def _ticks(tick: Tick, n_ticks: int) -> Progress:
    """Return what calls `tick` altogether `n_ticks` times as its progress goes from none to all."""
    ticked = 0

    def progress(done: int, total: int) -> None:
        nonlocal ticked
        while ticked < n_ticks * done // total:
            ticked += 1
            tick()

    return progress


def _null(observed: FloatArray, null: FloatArray) -> Null:
    """Compare `observed` of shape (n_channels,) with `null` of shape (n_channels, n_permutations)."""
    n_permutations = null.shape[1]
    mean, deviation = null.mean(axis=1), null.std(axis=1)
    p_value = (1 + (null >= observed[:, None]).sum(axis=1)) / (1 + n_permutations)
    scale = np.where(deviation > 0, deviation, 1.0)
    pooled = np.sort(((null - mean[:, None]) / scale[:, None]).ravel())
    n_reached = len(pooled) - np.searchsorted(pooled, (observed - mean) / scale, side="left")
    p_pooled = (1 + n_reached) / (1 + len(pooled))
    return Null(
        mean=mean,
        deviation=deviation,
        p_value=p_value,
        p_pooled=p_pooled,
        q_value=false_discovery_rates(p_pooled),
        p_family=(1 + (null.max(axis=0) >= observed[:, None]).sum(axis=1)) / (1 + n_permutations),
    )


def cross_fitted(
    estimator: AceEstimator,
    predictors: FloatArray | Predictors,
    response: FloatArray,
    n_folds: int,
    *,
    seed: int,
    groups: Groups | None = None,
    n_repeats: int = 1,
    tick: Tick = lambda: None,
) -> dict[str, Float64Array]:
    """Return the statistics of each channel by cross-validation, on held-out images.

    The transforms are fitted to all folds but one and evaluated at the held-out images; the correlations there are
    averaged over the folds. They are near 0 without an association, and otherwise somewhat below the population's
    value, since the transforms are fitted to fewer images. The principal components are those of all images.

    Parameters
    ----------
    estimator, predictors, response
        As in `permutation_null`.
    n_folds : int
        Number of folds, at least 2. Each must hold 3 images and leave 5 others, without counting copies.
    seed : int
        Seed of the folds.
    groups : Groups or None
        Copies among the images, which are held out together; None if all images differ.
    n_repeats : int
        Number of random partitions into folds that are averaged.
    tick : callable
        Called once for each fold.

    Returns
    -------
    dict of str to ndarray of shape (n_channels,)
        Mean correlations on held-out images by statistic, in [-1, 1].
    """
    rng = np.random.default_rng([seed, 2])
    groups = groups or Groups.without_copies(len(response))
    total = {name: np.zeros(len(predictors)) for name in estimator.statistics}
    for _ in range(n_repeats):
        folds = [groups.images(fold) for fold in np.array_split(rng.permutation(len(groups)), n_folds)]
        for name, values in estimator.held_out(predictors, response, folds).items():
            for of_fold in values.T:
                total[name] += of_fold
        for _ in folds:
            tick()
    return {name: values / (n_folds * n_repeats) for name, values in total.items()}


def halves(
    scorer: Scorer,
    n_images: int,
    n_halves: int,
    *,
    seed: int,
    top_k: int,
    groups: Groups | None = None,
    tick: Tick = lambda: None,
) -> dict[str, Halves]:
    """Return the scores and ranks of the channels on random halves of the images, and the agreement of the halves.

    Parameters
    ----------
    scorer : callable
        Scores the channels by sets of images; see `Scorer`, and `one_by_one` for a function of one set.
    n_images : int
        Number of all images.
    n_halves : int
        Number of halves, even: the two halves of each random partition are both used.
    seed : int
        Seed of the partitions.
    top_k : int
        Number of first ranks that `Halves.top_k_chance` counts.
    groups : Groups or None
        Copies among the images, which are in the same half; None if all images differ. A half is then half of the
        different images with all of their copies, and the numbers of images do not count copies.
    tick : callable
        Called once for each pair of halves.

    Returns
    -------
    dict of str to Halves
        Results by statistic.

    Notes
    -----
    A bootstrap with replacement would repeat images, and ACE fits repeated images too well: with 300 images, three
    components and a true correlation of .60, the replicates average .77. A half drawn without replacement deviates from
    all images as these do from the population (the delete-half jackknife, Shao and Wu, 1989). It also shows the bias
    with half the images, from which `corrected` estimates the bias with all of them.
    """
    rng = np.random.default_rng([seed, 3])
    all_images = groups or Groups.without_copies(n_images)
    n_different = len(all_images)

    def scored(size: int, n_pairs: int, tick: Tick) -> ByStatistic:
        """Return the statistics on pairs of disjoint random sets of `size` images, (n_channels, 2 n_pairs)."""
        sets = []
        for _ in range(n_pairs):
            drawn = rng.permutation(n_different)
            sets += [np.sort(all_images.images(drawn[start : start + size])) for start in (0, size)]
        return scorer(sets, _ticks(tick, n_pairs))

    by_size = {n_different // 2: scored(n_different // 2, n_halves // 2, tick)}
    for size in (n_different // 4, n_different // 8):
        if size >= 2 * MIN_IMAGES:
            by_size[size] = scored(size, min(N_CURVE_PAIRS, n_halves // 2), lambda: None)
    return {name: _halves(name, by_size, top_k) for name in by_size[n_different // 2]}


def one_by_one(score: Callable[[Int64Array], Mapping[str, FloatArray]]) -> Scorer:
    """Return the scorer of sets of images that calls `score` for each of them, which returns (n_channels,) arrays."""

    def scorer(sets: Sequence[Int64Array], progress: Progress) -> ByStatistic:
        found = []
        for number, chosen in enumerate(sets, start=1):
            found.append(score(chosen))
            progress(number, len(sets))
        return {name: np.stack([np.asarray(each[name], dtype=float) for each in found], axis=1) for name in found[0]}

    return scorer


def _halves(name: str, by_size: Mapping[int, ByStatistic], top_k: int) -> Halves:
    """Summarise one statistic over the sets of images."""
    found = np.ascontiguousarray(by_size[max(by_size)][name].T)
    ranks = np.argsort(np.argsort(-found, axis=1, kind="stable"), axis=1) + 1
    tail = 100 * (1 - CONFIDENCE) / 2
    agreement = {size: _mean_spearman(scores[name]) for size, scores in by_size.items()}
    return Halves(
        scores=found,
        rank_low=np.percentile(ranks, tail, axis=0, method="closest_observation"),
        rank_high=np.percentile(ranks, 100 - tail, axis=0, method="closest_observation"),
        top_k_chance=(ranks <= top_k).mean(axis=0),
        curve=np.array(sorted(agreement.items())),
    )


def corrected(observed: FloatArray, at_half: FloatArray) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return the bias-corrected correlation and the bounds of its 95 % confidence interval.

    A fit with d effective parameters for each image has ``1 - R^2 = (1 - r^2) (1 - d)`` on average, where r is the
    population's correlation, and ``(1 - r^2) (1 - 2 d)`` with half the images. The two equations give d and r.

    Parameters
    ----------
    observed : ndarray of shape (n_channels,)
        Correlations on all images.
    at_half : ndarray of shape (n_halves, n_channels)
        Correlations on random halves of the images.

    Returns
    -------
    corrected, low, high : ndarray of shape (n_channels,)
        Estimate and bounds, in [0, 1].
    """
    left, left_at_half = 1 - observed**2, 1 - at_half**2
    share = np.clip(left_at_half.mean(axis=0) / np.maximum(left, 1e-12), 0, 1)
    per_image = (1 - share) / (2 - share)
    centre = 1 - left / (1 - per_image)
    reach = ndtri((1 + CONFIDENCE) / 2) * left_at_half.std(axis=0) / (1 - per_image)
    roots = [np.sqrt(np.clip(value, 0, 1)) for value in (centre, centre - reach, centre + reach)]
    return roots[0], roots[1], roots[2]


def reliability(at_half: float) -> float:
    """Return the reliability with all images, given the split-half reliability, by the Spearman-Brown formula."""
    return 2 * at_half / (1 + at_half) if at_half > 0 else at_half


def images_for(n_images: int, reliable: float, goal: float = RELIABLE) -> float:
    """Return the number of images at which the reliability would be `goal`, given that it is `reliable` at `n_images`.

    This is the Spearman-Brown formula solved for the number of images; infinite if `reliable` is not above 0.
    """
    return n_images * goal * (1 - reliable) / (reliable * (1 - goal)) if reliable > 0 else float("inf")


def _mean_spearman(scores: FloatArray) -> float:
    """Return the mean Spearman correlation of the columns 0 and 1, 2 and 3, ...; 1 for a single channel."""
    if len(scores) < 2:
        return 1.0
    ranks = np.ascontiguousarray(mean_ranks(scores).T)
    return float(np.mean([correlation(*pair) for pair in zip(ranks[::2], ranks[1::2], strict=True)]))
