"""Names in MLflow: of runs, so that they begin with what tells them apart, and of metrics, so that charts are in order.

MLflow draws a chart for each metric, in a section for everything before the last slash of its name, and orders the
sections by name. ``quality`` has what can be compared between rankers and layers, and comes first. Scores have a
section for each statistic, because the scores of different statistics have different scales. ``size`` and ``stage.*``
come last.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
from mlflow.entities import Metric

from pipeline.artifacts import Effects, NetworkRanking, Ranking
from pipeline.rankers import ranking_statistic
from pipeline.settings import AceSettings, Settings

FAITHFULNESS = ("spearman", "deletion_area", "insertion_area")
QUALITY = "quality/"
SECONDS, CACHED = "stage.seconds/", "stage.cached/"
# Metrics of a network along its depth, with the position of the layer as step, by the column of its table of layers.
BY_LAYER = ("association", "share_significant", "reliability", "median", "upper_quartile", "variance")


def run_name(settings: Settings, target: str = "") -> str:
    """Return the name of a run: what channels are ranked by, layer, class, number of images and components, network.

    `target` is what the channels are ranked for, if the settings do not say it.
    """
    score, kept = settings.score, settings.n_components
    by = settings.rank.by or (score.own_statistic if isinstance(score, AceSettings) else score.kind)
    if isinstance(kept, float):
        components = f"{kept:.0%} of the variance"
    else:
        components = f"{kept} component{'s' if kept != 1 else ''}"
    parts = [
        f"{by} {settings.layer_label} {target or settings.target_label}",
        f"{settings.n_images} images",
        components,
    ]
    parts.append(settings.model.label)
    if n_randomized := settings.model.randomized:
        parts.append(f"{n_randomized} module{'s' if n_randomized > 1 else ''} randomised")
    return ", ".join([*parts, f"seed {settings.seed}"])


def ranking_metrics(ranking: Ranking, effects: Effects | None = None) -> dict[str, float]:
    """Return the metrics of a ranking, by name; those that were not computed are left out."""
    table, trust = ranking.table, ranking.trust
    statistic = ranking_statistic(str(table.by.iloc[0]))
    section = score_section(table)
    n_varying = int((~table.dead).sum())
    n_significant = trust.n_significant
    found: dict[str, float | None] = {
        f"{QUALITY}accuracy": trust.accuracy,
        f"{QUALITY}images_for_reliable": trust.images_for_reliable,
        f"{QUALITY}n_significant": n_significant,
        f"{QUALITY}reliability": trust.reliability,
        f"{QUALITY}share_significant": None if n_significant is None or not n_varying else n_significant / n_varying,
        f"{section}/best": float(table.score.max()),
        f"{section}/median": float(table[~table.dead].score.median()),
        f"{section}/share_above_half": float((table.score > 0.5).mean()) if statistic.is_correlation else None,
        "size/n_channels": len(table),
        "size/n_dead": len(table) - n_varying,
    }
    if effects is not None:
        measured = asdict(effects.faithfulness)
        found |= {f"{QUALITY}faithfulness.{name}": measured[name] for name in FAITHFULNESS}
    return {name: float(value) for name, value in found.items() if value is not None and np.isfinite(value)}


def score_section(table: pd.DataFrame) -> str:
    """Return the section of the metrics of the scores, which is the same for scores of the same kind."""
    return f"score.{table.by.iloc[0]}"


def score_curve(table: pd.DataFrame, now: int) -> list[Metric]:
    """Return the scores as a metric whose step is the rank."""
    name = f"{score_section(table)}/by_rank"
    return [Metric(name, float(score), now, int(rank)) for rank, score in zip(table["rank"], table.score, strict=True)]


def network_metrics(ranking: NetworkRanking, now: int) -> list[Metric]:
    """Return the metrics of a network: a few numbers, and curves whose step is the position of the layer."""
    layers, channels, by = ranking.layers, ranking.channels, ranking.summary.by
    section = f"score.{ranking.summary.statistic}.{by}"
    numbers = {
        f"{QUALITY}association.best": layers.association.max(),
        f"{QUALITY}n_layers_reliable": float((layers.reliability >= 0.7).sum())
        if layers.reliability.notna().any()
        else np.nan,
        f"{QUALITY}n_significant": layers.n_significant.sum() if layers.n_significant.notna().any() else np.nan,
        f"{QUALITY}share_significant": (channels.q < 0.05).mean() if channels.q.notna().any() else np.nan,
        f"{section}/best": channels[by].max(),
        f"{section}/median": channels[by].median(),
        "size/n_layers": len(layers),
        "size/n_not_ranked": len(ranking.not_ranked),
        "size/n_channels": len(channels),
    }
    found = [Metric(name, float(value), now, 0) for name, value in numbers.items() if np.isfinite(value)]
    for column in BY_LAYER:
        own_scale = f"{ranking.summary.statistic}.{by}." if column in ("median", "upper_quartile") else ""
        name = f"by_layer/{own_scale}{column}"
        for position, value in zip(layers.position, layers[column], strict=True):
            if np.isfinite(value):
                found.append(Metric(name, float(value), now, int(position)))
    return found
