"""Whether a ranking is faithful: does removing channels move the class score as the ranking says?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.arrays import BoolArray, FloatArray, Int64Array, IntArray

N_STEPS = 16
BAND = (0.05, 0.95)  # the random draws' band, as quantiles


def rank_correlation(score: FloatArray, effect: FloatArray) -> float | None:
    """Return Spearman's correlation in [-1, 1]; None where either is the same for all, or of fewer than 3 channels."""
    if len(score) < 3 or np.ptp(score) == 0 or np.ptp(effect) == 0:
        return None
    return float(stats.spearmanr(score, effect).statistic)


def removal_counts(n_channels: int) -> Int64Array:
    """Return how many channels are removed at each point of a curve: 0 to all, evenly, the same from either end."""
    half = np.linspace(0, n_channels / 2, min(N_STEPS, n_channels) // 2 + 1).astype(int)
    return np.unique(np.concatenate([half, n_channels - half]))


def random_orders(channels: IntArray, n_draws: int, seed: int) -> IntArray:
    """Return `n_draws` random orders of the channels, (n_draws, n_living), what a ranking is held against."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(channels) for _ in range(n_draws)])


def removal_sets(orders: IntArray, n_channels: int) -> BoolArray:
    """Return the sets of channels that the curves need, (n_orders, n_points, n_channels): True is removed.

    The first k of each order, for each count k. Insertion needs no more: to keep the first k is to remove the last
    n - k, and the counts are the same from either end.

    Parameters
    ----------
    orders : ndarray of shape (n_orders, n_living)
        The channels that are removed at all: a ranking, best first, the same from behind, random ones.
    n_channels : int
        Of the layer.
    """
    counts = removal_counts(orders.shape[1])
    sets = np.zeros((len(orders), len(counts), n_channels), dtype=bool)
    for place, each in enumerate(orders):
        for point, count in enumerate(counts):
            sets[place, point, each[:count]] = True
    return sets


def removal_curves(ranked: FloatArray, random: FloatArray, n_channels: int) -> pd.DataFrame:
    """Return what is left of the class score, a row for each share of channels removed or kept.

    Parameters
    ----------
    ranked : ndarray of shape (2, n_points)
        Class scores, means over the images, for the sets of `removal_sets` by the ranking and by it from behind.
    random : ndarray of shape (n_draws, n_points)
        The same by random orders.
    n_channels : int
        Those that are removed at all.

    Returns
    -------
    DataFrame
        ``n_channels``; of the first so many removed (``deletion_top``), the last (``deletion_bottom``), random ones
        (``deletion_random``, their band ``..._low`` and ``..._high``), and likewise of so many kept
        (``insertion_...``): the class score, 1 with nothing removed, 0 with all of them. Not a number where both ends
        have the same.
    """
    class_scores = np.concatenate([ranked, random])
    whole, nothing = class_scores[:, 0].mean(), class_scores[:, -1].mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        left = (class_scores - nothing) / (whole - nothing) if whole != nothing else np.full_like(class_scores, np.nan)
    low, high = np.quantile(left[2:], BAND, axis=0)
    drawn = {"": left[2:].mean(axis=0), "_low": low, "_high": high}
    table = pd.DataFrame({"n_channels": removal_counts(n_channels)})
    table["deletion_top"], table["deletion_bottom"] = left[0], left[1]
    table["insertion_top"], table["insertion_bottom"] = left[1][::-1], left[0][::-1]
    for name, values in drawn.items():
        table[f"deletion_random{name}"], table[f"insertion_random{name}"] = values, values[::-1]
    return table


def area(curves: pd.DataFrame, name: str) -> float | None:
    """Return the area under a curve, its channels running from 0 to 1; None where there is no curve."""
    share = curves.n_channels / curves.n_channels.max()
    found = float(np.trapezoid(curves[name], share))
    return found if np.isfinite(found) else None
