"""rank: the channels by what is asked for, best first, ties by index, dead ones last; how far to trust the order."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import ChannelScores, FloatArray, Ranking, Trust
from pipeline.numerics.evidence import images_for, reliability
from pipeline.progress import Progress
from pipeline.score_settings import AceSettings
from pipeline.settings import Settings

VERSION = 3
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class RankReads:
    """What the stage reads: what to rank by, and what the table says of the run beside each channel."""

    by: str
    statistic: str
    model: str
    layer: str
    class_name: str | None
    target_class: int | None
    n_images: int
    n_components: int | float
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, in plain JSON types."""
        return asdict(self)


def select(settings: Settings) -> RankReads:
    """Pick what this stage reads."""
    score = settings.score
    statistic = score.statistic if isinstance(score, AceSettings) else score.kind
    by = settings.rank.by or statistic
    return RankReads(
        by=by,
        statistic=by if by in ("maximal", "first") else statistic,
        model=settings.model.name,
        layer=settings.layer,
        class_name=settings.class_name,
        target_class=settings.target_class,
        n_images=settings.n_images,
        n_components=settings.n_components,
        seed=settings.seed,
    )


def run(reads: RankReads, scores: ChannelScores, *, folder: Path, progress: Progress) -> Ranking:
    """Return the ranking, written below `folder` as CSV and Parquet.

    The column ``score`` is what is ranked by; with ``by="q_value"``, where many share the smallest value, it is the
    excess, which parts them.
    """
    evidence = scores.evidence[reads.statistic]
    channels = np.arange(len(scores.dead))
    score = _score(reads, scores, evidence)
    first_of_all = evidence["q_value"].to_numpy() if reads.by == "q_value" else np.zeros(len(score))
    order = np.lexsort((channels, -score, first_of_all, scores.dead))
    table = pd.DataFrame(
        {
            "rank": channels + 1,
            "channel": order,
            "score": score[order],
        }
    )
    if len(scores.values) > 1:
        for name, values in scores.values.items():
            table[f"score_{name}"] = values[order]
    for name in evidence.columns:
        table[name] = evidence[name].to_numpy()[order]
    if scores.fit is not None:
        table["r_squared"], table["iterations"] = scores.fit.r_squared[order], scores.fit.iterations[order]
    table["dead"] = scores.dead[order]
    progress(len(order), len(order))
    return Ranking(table.assign(**asdict(reads)), _trust(reads, scores)).save(folder)


def _score(reads: RankReads, scores: ChannelScores, evidence: pd.DataFrame) -> FloatArray:
    """Return what is ranked by, larger is better; 0 for a dead channel."""
    if reads.by in scores.values:
        return scores.values[reads.by]
    column: FloatArray = evidence["excess" if reads.by == "q_value" else reads.by].to_numpy()
    return np.where(scores.dead, 0.0, column)


def _trust(reads: RankReads, scores: ChannelScores) -> Trust:
    """Sum up how far the ranking can be trusted."""
    evidence, curve = scores.evidence[reads.statistic], scores.curves[reads.statistic]
    n_significant = int((evidence.q_value < SIGNIFICANT).sum()) if "q_value" in evidence else None
    if not len(curve):
        return Trust(n_significant=n_significant)
    found = reliability(float(curve[-1, 1]))
    points = tuple((int(images), float(value)) for images, value in curve)
    stands_for = None if reads.by == reads.statistic else reads.statistic
    return Trust(found, images_for(reads.n_images, found), n_significant, points, stands_for)
