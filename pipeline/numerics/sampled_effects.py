"""The agreement of scores with effects that were measured for some of the channels and images, and its uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from pipeline.arrays import BoolArray, FloatArray, Int64Array
from pipeline.numerics.evidence import CONFIDENCE
from pipeline.numerics.faithfulness import rank_correlation

N_DRAWS = 200  # draws of the bootstrap
LARGEST = 1 - 1e-6  # correlations are at most so large before Fisher's transformation


class Estimate(NamedTuple):
    """A value with its 95 % confidence interval; None if they are not defined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def agreement(score: FloatArray, changes: FloatArray, is_certain: BoolArray, n_others: int, seed: int) -> Estimate:
    """Return the rank correlation of scores with mean absolute changes over all channels, and its confidence interval.

    Channels that were drawn at random stand for all channels that could have been drawn: they are weighted with the
    inverse of the probability with which a channel was drawn. The interval is that of a normal distribution after
    Fisher's transformation. Its standard deviation is that of a bootstrap, which draws the images with replacement, and
    the channels without replacement from a population in which each drawn channel is repeated as often as its weight.
    Therefore, channels add nothing to the interval if all of them were measured.

    Parameters
    ----------
    score : ndarray of shape (n_channels,)
        Scores of the channels that were measured.
    changes : ndarray of shape (n_channels, n_images)
        Changes of the class score.
    is_certain : ndarray of shape (n_channels,)
        Whether a channel stands for itself only. The others were drawn at random.
    n_others : int
        Number of channels that the others were drawn from.
    seed : int
        Seed of the bootstrap.

    References
    ----------
    Booth, Butler and Hall (1994), "Bootstrap methods for finite populations", JASA 89.
    """
    certain, drawn = np.flatnonzero(is_certain), np.flatnonzero(~is_certain)
    if n_others and not len(drawn):
        return Estimate()
    magnitudes = np.abs(changes)
    weights = np.where(is_certain, 1.0, n_others / max(len(drawn), 1))

    def correlation(channels: Int64Array, images: Int64Array | slice) -> float | None:
        effect = magnitudes[channels][:, images].mean(axis=1)
        return weighted_rank_correlation(score[channels], effect, weights[channels])

    value = correlation(np.arange(len(score)), slice(None))
    if value is None:
        return Estimate()
    rng, n_images = np.random.default_rng(seed), changes.shape[1]
    found = []
    for _ in range(N_DRAWS):
        images = np.asarray(rng.integers(n_images, size=n_images))
        other = correlation(np.concatenate([certain, _drawn_again(drawn, n_others, rng)]), images)
        if other is not None:
            found.append(_fisher(other))
    if len(found) < N_DRAWS / 2:
        return Estimate(value)
    reach = ndtri((1 + CONFIDENCE) / 2) * np.std(found, ddof=1)
    return Estimate(value, float(np.tanh(_fisher(value) - reach)), float(np.tanh(_fisher(value) + reach)))


def over_images(
    value: float | None, compute: Callable[[Int64Array], float | None], n_images: int, seed: int
) -> Estimate:
    """Return a value with its confidence interval over images.

    Parameters
    ----------
    value : float or None
        The value for all images.
    compute : callable
        From the indices of images, which may be repeated, to the value for these images.
    n_images : int
        Number of images.
    seed : int
        Seed of the bootstrap.
    """
    if value is None:
        return Estimate()
    rng = np.random.default_rng(seed)
    drawn = [compute(rng.integers(n_images, size=n_images)) for _ in range(N_DRAWS)]
    found = [other for other in drawn if other is not None]
    if len(found) < N_DRAWS / 2:
        return Estimate(value)
    reach = ndtri((1 + CONFIDENCE) / 2) * float(np.std(found, ddof=1))
    return Estimate(value, value - reach, value + reach)


def weighted_rank_correlation(score: FloatArray, effect: FloatArray, weights: FloatArray) -> float | None:
    """Return Spearman's correlation in [-1, 1] of channels that stand for several channels each.

    With equal weights, it is that of `pipeline.numerics.faithfulness.rank_correlation`; None under the same conditions.
    """
    if len(score) < 3 or (weights == weights[0]).all():
        return rank_correlation(score, effect)
    if np.ptp(score) == 0 or np.ptp(effect) == 0:
        return None
    first, second = (_weighted_ranks(values, weights) for values in (score, effect))
    first, second = (ranks - np.average(ranks, weights=weights) for ranks in (first, second))
    deviations = np.sqrt((weights * first**2).sum() * (weights * second**2).sum())
    return float(np.clip((weights * first * second).sum() / deviations, -1, 1))


def _weighted_ranks(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weight of all smaller values, and half of that of equal ones."""
    _, place = np.unique(values, return_inverse=True)
    totals = np.bincount(place, weights)
    ranks: FloatArray = (np.cumsum(totals) - totals / 2)[place]
    return ranks


def _drawn_again(drawn: Int64Array, n_others: int, rng: np.random.Generator) -> Int64Array:
    """Return another sample of the same size, from a population of `n_others` that the sample stands for."""
    if len(drawn) in (0, n_others):
        return drawn
    more = rng.choice(drawn, n_others % len(drawn), replace=False)
    return rng.choice(np.concatenate([np.repeat(drawn, n_others // len(drawn)), more]), len(drawn), replace=False)


def _fisher(value: float) -> float:
    return float(np.arctanh(np.clip(value, -LARGEST, LARGEST)))
