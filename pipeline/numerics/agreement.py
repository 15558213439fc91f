"""Agreement between rankings of the same channels, over all channels and among the first ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.arrays import Float64Array, FloatArray

# The fields of `Agreement`, with their names in tables and figures.
MEASURES: Mapping[str, str] = {
    "spearman": "Spearman",
    "kendall": "Kendall",
    "rank_biased_overlap": "rank-biased overlap",
    "top_overlap": "top {top} overlap",
}
PERSISTENCE = 0.9  # the first ten ranks then have 86 % of the weight in rank-biased overlap


@dataclass(frozen=True)
class Agreement:
    """Agreement of every pair of rankings.

    Attributes
    ----------
    spearman, kendall : ndarray of shape (n_rankings, n_rankings)
        Rank correlations over all channels, in [-1, 1]: Spearman's rho and Kendall's tau-b. The diagonal is 1, as in
        the other arrays.
    rank_biased_overlap : ndarray of shape (n_rankings, n_rankings)
        Rank-biased overlap, in [0, 1], which gives the first ranks the largest weights.
    top_overlap : ndarray of shape (n_rankings, n_rankings)
        Share of the first `top` channels that two rankings have in common, in [0, 1].
    top : int
        Number of channels that `top_overlap` compares.
    """

    spearman: Float64Array
    kendall: Float64Array
    rank_biased_overlap: Float64Array
    top_overlap: Float64Array
    top: int


def agreement(ranks: Sequence[FloatArray], top: int) -> Agreement:
    """Return the agreement of every pair of rankings.

    Parameters
    ----------
    ranks : sequence of ndarray of shape (n_channels,)
        Rank of each channel in each ranking, 1 for the best; tied channels have their mean rank.
    top : int
        Number of channels that `Agreement.top_overlap` compares; all channels if there are fewer.
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
    """Return the share of the first `top` items of one ranking that are among the first `top` of the other."""
    top = min(top, len(first))
    return len(set(first[:top]) & set(second[:top])) / top


def rank_biased_overlap(first: Sequence[int], second: Sequence[int], persistence: float = PERSISTENCE) -> float:
    """Return the extrapolated rank-biased overlap of two rankings, best first.

    The agreement A_d at depth d is the share of the first d items that both rankings have in common. It is averaged
    over depths with weights that fall as the persistence p to the power of d:

    ``RBO = A_k p^k + (1 - p) / p * sum_{d=1..k} A_d p^d``.

    Parameters
    ----------
    first, second : sequence of int
        Rankings of equal length k, best first, without repeated items.
    persistence : float
        The persistence p, in (0, 1): the larger, the more weight lower ranks have.

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


def headings(top: int) -> list[str]:
    """Return the names of the measures of agreement; `top` is the number of channels that the last one compares."""
    return [text.format(top=top) for text in MEASURES.values()]


def ranks_by_channel(table: pd.DataFrame) -> FloatArray:
    """Return the rank of each channel. Dead channels, whose order has no meaning, have their mean rank."""
    ordered = table.sort_values("channel")
    ranks: FloatArray = ordered["rank"].to_numpy(dtype=float)
    dead = ordered.dead.to_numpy(dtype=bool)
    if dead.any():
        ranks[dead] = ranks[dead].mean()
    return ranks
