"""Headings and descriptions of the columns of a ranking, for tables that people read.

Columns that are not in `KNOWN` are shown under their own names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.rankers import ranking_statistic

# Columns with the settings of the run. They are the same in every row, so the report shows them once.
QUESTION = {
    "by", "statistic", "model", "layer", "class_name", "target_class", "n_images", "n_components", "seed",
}  # fmt: skip

KNOWN = {
    "rank": ("rank", "Rank of the channel; 1 is the best."),
    "channel": ("channel", "Index of the channel in its layer, starting at 0."),
    "score": ("score", "Score that the channels are ranked by."),
    "score_maximal": ("maximal", "Correlation of the sum of the components' transforms with that of the class score."),
    "score_penalised": ("penalised", "Maximal correlation, shrunk by the penalties where there is little evidence."),
    "score_first": ("first", "Absolute correlation of the first component's transform with that of the class score."),
    "cross_fitted": ("cross-fitted", "Score on held-out images; near 0 without association with the class score."),
    "r_squared": ("R²", "Share of the variance of the transformed class score that the components explain."),
    "iterations": ("iterations", "Number of outer iterations of ACE."),
    "degrees_of_freedom": ("d.f.", "Effective degrees of freedom of the channel's transforms."),
    "dead": ("dead", "Whether the channel is dead: none of its pixels differs between images."),
    "p_value": ("p", "Share of the permutations of the class scores in which the channel has at least this score."),
    "p_pooled": ("pooled p", "The same, from the standardised scores and permutations of all channels; q adjusts it."),
    "q_value": ("q", "False discovery rate among channels with this or a smaller q-value (Benjamini and Hochberg)."),
    "p_family": ("family-wise p", "Share of the permutations in which any channel has at least this score."),
    "excess": ("excess", "Score minus the null mean, in standard deviations of the permutation null."),
    "null_mean": ("null mean", "Mean score of the channel under permutations of the class scores (permutation null)."),
    "null_deviation": ("null SD", "Standard deviation of the permutation null."),
    "corrected": ("bias-corrected", "Score minus its bias, which is estimated from random halves of the images."),
    "low": ("lower limit", "Lower limit of the 95 % confidence interval of the bias-corrected score."),
    "high": ("upper limit", "Upper limit of the 95 % confidence interval of the bias-corrected score."),
    "top_k_chance": ("top-k probability", "Share of the random halves in which the channel is among the best k."),
    "rank_low": ("rank, lower limit", "Lower limit of the 95 % confidence interval of the rank."),
    "rank_high": ("rank, upper limit", "Upper limit of the 95 % confidence interval of the rank."),
}  # fmt: skip

# Standard deviations of the null on each side of its mean, in figures: 90 % of it (scipy.stats.norm.ppf(0.95)).
NULL_BAND = 1.6448536269514722

# Columns of the best channels in the terminal and in notebooks: heading, column that must exist, format of the cells.
SUMMARY = (
    ("rank", "rank", "{rank}"),
    ("channel", "channel", "{channel}"),
    ("score", "score", "{score:#.4g}"),
    ("null mean", "null_mean", "{null_mean:.2f} ± {null_deviation:.2f}"),
    ("q", "q_value", "{q_value:.3f}"),
    ("cross-fitted", "cross_fitted", "{cross_fitted:.2f}"),
    ("bias-corrected, 95 %", "low", "{corrected:.2f}, {low:.2f} to {high:.2f}"),
    ("rank, 95 %", "rank_low", "{rank_low:.0f} to {rank_high:.0f}"),
)


@dataclass(frozen=True)
class Column:
    """A column that is shown.

    Attributes
    ----------
    key : str
        Name of the column in the table.
    label : str
        Heading.
    about : str
        Description; empty for columns that are not known.
    """

    key: str
    label: str
    about: str


def is_correlation(table: pd.DataFrame) -> bool:
    """Return whether the scores of a ranking are correlations: at most 1, and hardly below 0."""
    return ranking_statistic(str(table.by.iloc[0])).is_correlation


def is_by_statistic(table: pd.DataFrame) -> bool:
    """Return whether the scores are those of the statistic that the null and the intervals in the table belong to."""
    return bool(table.by.iloc[0] == table.statistic.iloc[0])


def score_label(table: pd.DataFrame) -> str:
    """Return the name of the scores of a ranking, e.g. ``maximal correlation``."""
    return ranking_statistic(str(table.by.iloc[0])).label


def score_text(score: float) -> str:
    """Return a score with three significant digits."""
    return f"{score:#.3g}"


def shown_columns(table: pd.DataFrame) -> list[Column]:
    """Return the columns that differ between channels, in the order of the table.

    ``dead`` is left out if no channel is dead, and so is the statistic that the column ``score`` already shows.
    """
    left_out = {*QUESTION, f"score_{table.by.iloc[0]}", *([] if table.dead.any() else ["dead"])}
    keys = [key for key in table.columns if key not in left_out]
    return [Column(key, *KNOWN.get(key, (key.replace("_", " "), ""))) for key in keys]


def cell_text(value: Any) -> str:
    """Return a value as it is shown in a table."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        small = value != 0 and abs(value) < 1e-3
        return f"{value:.2e}" if small else f"{value:.4f}" if abs(value) < 100 else f"{value:.4g}"
    return str(value)


@dataclass(frozen=True)
class BestChannels:
    """The best channels of a ranking as a table of text.

    Attributes
    ----------
    headings : list of str
        Headings of the columns.
    rows : list of list of str
        Cells, one row for each channel.
    total : str
        Number of all channels, in words.
    """

    headings: list[str]
    rows: list[list[str]]
    total: str


def best_channels(table: pd.DataFrame, n_shown: int) -> BestChannels:
    """Return the first `n_shown` channels of a ranking."""
    columns = [(heading, text) for heading, needed, text in SUMMARY if needed in table.columns]
    rows = [
        [text.format(**{str(name): value for name, value in row.items()}) for _, text in columns]
        for row in table.head(n_shown).to_dict("records")
    ]
    n_dead = int(table.dead.sum())
    total = f"{len(table)} channels" + (f", {n_dead} of them dead (no variance)" if n_dead else "")
    total = f"... of {total}." if len(table) > n_shown else f"{total}."
    return BestChannels([heading for heading, _ in columns], rows, total)
