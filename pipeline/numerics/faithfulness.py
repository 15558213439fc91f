"""Faithfulness of a ranking: does the class score change most when the channels ranked first are ablated?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.arrays import BoolArray, FloatArray, Int64Array, IntArray
from pipeline.numerics.rank_statistics import spearman

N_STEPS = 16  # number of steps of a curve, at most
BAND = (0.05, 0.95)  # quantiles of the random orders that bound the band in the figures


def rank_correlation(score: FloatArray, effect: FloatArray) -> float | None:
    """Return Spearman's correlation in [-1, 1]; None for fewer than 3 channels or if all values of one are equal."""
    if len(score) < 3 or np.ptp(score) == 0 or np.ptp(effect) == 0:
        return None
    return spearman(score, effect)


def ablation_counts(n_channels: int, n_steps: int = N_STEPS) -> Int64Array:
    """Return the number of ablated channels at each point of a curve: from 0 to all, evenly spaced and symmetric."""
    half = np.linspace(0, n_channels / 2, min(n_steps, n_channels) // 2 + 1).astype(int)
    return np.unique(np.concatenate([half, n_channels - half]))


def random_orders(channels: IntArray, n_draws: int, seed: int) -> IntArray:
    """Return `n_draws` random orders of the channels, (n_draws, n_varying), for comparison with a ranking."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(channels) for _ in range(n_draws)])


def ablation_sets(orders: IntArray, n_channels: int, n_steps: int = N_STEPS) -> BoolArray:
    """Return the sets of ablated channels that the curves need.

    A set holds the first k channels of an order, for each count k of `ablation_counts`. Insertion curves need no other
    sets: keeping the first k channels of an order means ablating the first n - k of the reversed order, and the counts
    are symmetric.

    Parameters
    ----------
    orders : ndarray of shape (n_orders, n_varying)
        Orders of the channels that are ablated: a ranking, best first, the reversed ranking, and random orders.
    n_channels : int
        Number of channels of the layer.
    n_steps : int
        Number of steps of the curves, at most.

    Returns
    -------
    ndarray of shape (n_orders, n_points, n_channels)
        Whether a channel is ablated.
    """
    counts = ablation_counts(orders.shape[1], n_steps)
    sets = np.zeros((len(orders), len(counts), n_channels), dtype=bool)
    for place, each in enumerate(orders):
        for point, count in enumerate(counts):
            sets[place, point, each[:count]] = True
    return sets


def normalised(class_scores: FloatArray) -> FloatArray:
    """Return class scores, (n_orders, n_points), as shares: 1 with no channel ablated and 0 with all; NaN if equal."""
    whole, nothing = class_scores[:, 0].mean(), class_scores[:, -1].mean()
    if whole == nothing:
        return np.full_like(class_scores, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        left: FloatArray = (class_scores - nothing) / (whole - nothing)
    return left


def ablation_curves(ranked: FloatArray, random: FloatArray, n_channels: int, n_steps: int = N_STEPS) -> pd.DataFrame:
    """Return the deletion and insertion curves: the normalised class score against the number of channels.

    Parameters
    ----------
    ranked : ndarray of shape (2, n_points)
        Mean class scores over the images for the sets of `ablation_sets`, by the ranking and by the reversed ranking.
    random : ndarray of shape (n_draws, n_points)
        The same for random orders.
    n_channels : int
        Number of channels that are ablated in total.
    n_steps : int
        Number of steps of the curves, at most.

    Returns
    -------
    DataFrame
        One row for each number of channels (``n_channels``). The class score is normalised to 1 with no channel ablated
        and 0 with all of them ablated, and is NaN where these two are equal. ``deletion_top`` and ``deletion_bottom``
        are the scores with so many of the first and of the last channels ablated. ``deletion_random`` is the mean over
        random orders, with the band from ``deletion_random_low`` to ``deletion_random_high``. The ``insertion_...``
        columns are the scores with only so many channels kept: the first, the last, or random ones.
    """
    left = normalised(np.concatenate([ranked, random]))
    low, high = np.quantile(left[2:], BAND, axis=0)
    drawn = {"": left[2:].mean(axis=0), "_low": low, "_high": high}
    table = pd.DataFrame({"n_channels": ablation_counts(n_channels, n_steps)})
    table["deletion_top"], table["deletion_bottom"] = left[0], left[1]
    table["insertion_top"], table["insertion_bottom"] = left[1][::-1], left[0][::-1]
    for name, values in drawn.items():
        table[f"deletion_random{name}"], table[f"insertion_random{name}"] = values, values[::-1]
    return table


def area(curves: pd.DataFrame, name: str) -> float | None:
    """Return the area under a curve over the share of channels, from 0 to 1; None where the curve is not defined."""
    return area_under(curves[name].to_numpy(), curves.n_channels.to_numpy())


def area_under(values: FloatArray, n_channels: Int64Array) -> float | None:
    """Return the area under one curve, given as arrays of shape (n_points,); None where it is not defined."""
    found = float(np.trapezoid(values, n_channels / n_channels.max()))
    return found if np.isfinite(found) else None
