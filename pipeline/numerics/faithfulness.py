"""Whether a ranking is faithful: does removing channels move the class score as the ranking says?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

N_STEPS = 16
BAND = (0.05, 0.95)  # the random draws' band, as quantiles


def rank_correlation(score: FloatArray, effect: FloatArray) -> float | None:
    """Return Spearman's correlation in [-1, 1]; None where either is the same for all, or of fewer than 3 channels."""
    if len(score) < 3 or np.ptp(score) == 0 or np.ptp(effect) == 0:
        return None
    return float(stats.spearmanr(score, effect).statistic)


def removal_counts(n_channels: int) -> NDArray[np.int64]:
    """Return how many channels are removed at each point of a curve: 0 to all, evenly, the same from either end."""
    half = np.linspace(0, n_channels / 2, min(N_STEPS, n_channels) // 2 + 1).astype(int)
    return np.unique(np.concatenate([half, n_channels - half]))


def removal_sets(order: NDArray[np.integer[Any]], n_channels: int, n_draws: int, seed: int) -> BoolArray:
    """Return the sets of channels that the curves need, (2 + n_draws, n_points, n_channels): True is removed.

    The first k of the ranking, the last k, and the first k of `n_draws` random orders, for each count k. Insertion
    needs no more: to keep the first k is to remove the last n - k, and the counts are the same from either end.

    Parameters
    ----------
    order : ndarray of shape (n_living,)
        The channels that are removed at all, best first.
    n_channels : int
        Of the layer.
    n_draws, seed : int
        Of the random orders.
    """
    rng = np.random.default_rng(seed)
    orders = [order, order[::-1], *(rng.permutation(order) for _ in range(n_draws))]
    counts = removal_counts(len(order))
    sets = np.zeros((len(orders), len(counts), n_channels), dtype=bool)
    for place, each in enumerate(orders):
        for point, count in enumerate(counts):
            sets[place, point, each[:count]] = True
    return sets


def removal_curves(class_scores: FloatArray, n_channels: int) -> pd.DataFrame:
    """Return what is left of the class score, a row for each share of channels removed or kept.

    Parameters
    ----------
    class_scores : ndarray of shape (2 + n_draws, n_points)
        Means over the images, for the sets of `removal_sets`.
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
    whole, nothing = class_scores[:, 0].mean(), class_scores[:, -1].mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        left = (class_scores - nothing) / (whole - nothing) if whole != nothing else np.full_like(class_scores, np.nan)
    low, high = np.quantile(left[2:], BAND, axis=0)
    random = {"": left[2:].mean(axis=0), "_low": low, "_high": high}
    table = pd.DataFrame({"n_channels": removal_counts(n_channels)})
    table["deletion_top"], table["deletion_bottom"] = left[0], left[1]
    table["insertion_top"], table["insertion_bottom"] = left[1][::-1], left[0][::-1]
    for name, values in random.items():
        table[f"deletion_random{name}"], table[f"insertion_random{name}"] = values, values[::-1]
    return table


def area(curves: pd.DataFrame, name: str) -> float | None:
    """Return the area under a curve, its channels running from 0 to 1; None where there is no curve."""
    share = curves.n_channels / curves.n_channels.max()
    found = float(np.trapezoid(curves[name], share))
    return found if np.isfinite(found) else None
