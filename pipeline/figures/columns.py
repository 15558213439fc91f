"""What the columns of a ranking are called where people read them; a column that is not known here goes by its name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.rankers import ranking_statistic

# The question beside each channel: the same in every row, so the report says it once.
QUESTION = {
    "by", "statistic", "model", "layer", "class_name", "target_class", "n_images", "n_components", "seed",
}  # fmt: skip

KNOWN = {
    "rank": ("rank", "1 is best"),
    "channel": ("channel", "Index of the channel in its layer, from 0."),
    "score": ("score", "What the channels are ranked by."),
    "score_maximal": ("maximal", "Correlation of the transformed components' sum with the transformed class score."),
    "score_first": ("first", "Absolute correlation of the first component's transform with that of the class score."),
    "cross_fitted": ("cross-fitted", "Correlation on held-out images: near 0 for a channel that means nothing."),
    "r_squared": ("R²", "Share of the transformed class score's variance that the transformed components explain."),
    "iterations": ("iterations", "Outer iterations until ACE stopped."),
    "dead": ("dead", "Channels none of whose pixels ever varies."),
    "p_value": ("p", "Share of permutations of the class scores in which the channel scores at least as high."),
    "q_value": ("q", "p-value corrected for the number of channels (Benjamini and Hochberg)."),
    "p_family": ("family-wise p", "Share of permutations in which any channel scores at least as high."),
    "excess": ("excess", "Score over the mean under permutation, in its standard deviations."),
    "null_mean": ("null mean", "Mean score under permutation of the class scores: what noise scores."),
    "null_deviation": ("null deviation", "Standard deviation of the score under permutation."),
    "corrected": ("corrected", "Score less its bias, worked out from random halves of the images."),
    "low": ("low", "Lower end of the corrected score's 95 % interval."),
    "high": ("high", "Upper end of the corrected score's 95 % interval."),
    "top_k_chance": ("top-k chance", "Share of the random halves in which the channel is among the best."),
    "rank_low": ("rank low", "Lower end of the rank's 95 % interval."),
    "rank_high": ("rank high", "Upper end of the rank's 95 % interval."),
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column as people see it: its key in the table, its heading, and what it means (may be empty)."""

    key: str
    label: str
    about: str


def is_correlation(table: pd.DataFrame) -> bool:
    """Say whether a ranking's scores are correlations: at most 1, and hardly below 0."""
    return ranking_statistic(str(table.by.iloc[0])).is_correlation


def score_label(table: pd.DataFrame) -> str:
    """Return what a ranking's scores are, in a few words."""
    return ranking_statistic(str(table.by.iloc[0])).label


def score_text(score: float) -> str:
    """Return a score to three digits, whatever its size."""
    return f"{score:#.3g}"


def shown_columns(table: pd.DataFrame) -> list[Column]:
    """Return the columns that tell channels apart, in the table's order; ``dead`` only where a channel is."""
    keys = [key for key in table.columns if key not in QUESTION and not (key == "dead" and not table.dead.any())]
    return [Column(key, *KNOWN.get(key, (key.replace("_", " "), ""))) for key in keys]


def cell_text(value: Any) -> str:
    """Return a value as a table shows it."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        small = value != 0 and abs(value) < 1e-3
        return f"{value:.2e}" if small else f"{value:.4f}" if abs(value) < 100 else f"{value:.4g}"
    return str(value)
