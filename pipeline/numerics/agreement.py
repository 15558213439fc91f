"""How far rankings of the same channels agree: over all channels, and at the top, where people look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from pipeline.arrays import Float64Array, FloatArray

PERSISTENCE = 0.9  # the first ten ranks then carry 86 % of rank-biased overlap's weight


@dataclass(frozen=True)
class Agreement:
    """Agreement of every pair of rankings, each an array of shape (n_rankings, n_rankings), 1 on the diagonal.

    Attributes
    ----------
    spearman, kendall : ndarray
        Rank correlations over all channels, in [-1, 1]; Kendall's tau-b, which allows for ties.
    rank_biased_overlap : ndarray
        In [0, 1]; weighs the top most.
    top_overlap : ndarray
        Share of the top `top` channels that both have, in [0, 1].
    top : int
        How many.
    """

    spearman: Float64Array
    kendall: Float64Array
    rank_biased_overlap: Float64Array
    top_overlap: Float64Array
    top: int


def agreement(ranks: Sequence[FloatArray], top: int) -> Agreement:
    """Return how far rankings agree, pair by pair.

    Parameters
    ----------
    ranks : sequence of ndarray of shape (n_channels,)
        Each channel's rank, 1 the best; ties share their mean rank.
    top : int
        Channels compared at the top; all of them where there are fewer.
    """
    orders = [np.argsort(each, kind="stable").tolist() for each in ranks]
    top = min(top, len(ranks[0]))

    def pairs(measure: Any, items: Sequence[Any]) -> Float64Array:
        found = np.eye(len(items))
        for i in range(len(items)):
            for j in range(i):
                found[i, j] = found[j, i] = measure(items[i], items[j])
        return found

    return Agreement(
        spearman=pairs(lambda a, b: stats.spearmanr(a, b).statistic, ranks),
        kendall=pairs(lambda a, b: stats.kendalltau(a, b).statistic, ranks),
        rank_biased_overlap=pairs(rank_biased_overlap, orders),
        top_overlap=pairs(lambda a, b: top_overlap(a, b, top), orders),
        top=top,
    )


def top_overlap(first: Sequence[int], second: Sequence[int], top: int) -> float:
    """Return the share of the `top` best of one ranking that are among the `top` best of the other."""
    top = min(top, len(first))
    return len(set(first[:top]) & set(second[:top])) / top


def rank_biased_overlap(first: Sequence[int], second: Sequence[int], persistence: float = PERSISTENCE) -> float:
    """Return the extrapolated rank-biased overlap of two rankings, best first.

    The agreement at depth d is the share of the first d that both have; depths are weighed by persistence ** d:

    ``RBO = A_k p^k + (1 - p) / p * sum_{d=1..k} A_d p^d``.

    Parameters
    ----------
    first, second : sequence of int
        Rankings of equal length k, best first, no item twice.
    persistence : float
        p in (0, 1): how far down a reader goes on.

    References
    ----------
    Webber, Moffat and Zobel (2010), "A similarity measure for indefinite rankings", ACM TOIS 28(4), equation 32.
    """
    seen_first: set[int] = set()
    seen_second: set[int] = set()
    n_common, weight, total, share = 0, 1.0, 0.0, 1.0
    for depth, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        seen_first.add(a)
        seen_second.add(b)
        n_common += 1 if a == b else (a in seen_second) + (b in seen_first)
        weight *= persistence
        share = n_common / depth
        total += share * weight
    return share * weight + (1 - persistence) / persistence * total
