"""rank: order the channels, best first, ties by index, dead channels last; and say how far to trust the order."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.arrays import FloatArray
from pipeline.artifacts import ChannelScores, Ranking, Trust
from pipeline.errors import InputError
from pipeline.numerics.evidence import images_for, reliability
from pipeline.settings import AceSettings, Settings
from pipeline.stages.stage import Stage

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class RankReads:
    """What the stage reads: what to rank by, and what the table says of the run in every row."""

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
    """Return what this stage reads."""
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


def run(reads: RankReads, *, scores: ChannelScores) -> Ranking:
    """Return the ranking.

    The column ``score`` is what the channels are ranked by. With ``by="q_value"``, where many channels share the
    smallest value, it is the excess, which tells them apart.
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
    return Ranking(table.assign(**asdict(reads)), _trust(reads, scores))


def _score(reads: RankReads, scores: ChannelScores, evidence: pd.DataFrame) -> FloatArray:
    """Return what the channels are ranked by, the larger the better; 0 for a dead channel."""
    if reads.by in scores.values:
        return scores.values[reads.by]
    name = "excess" if reads.by == "q_value" else reads.by
    if name not in evidence:  # the settings allow it for this number of images, but copies do not count
        raise InputError(
            f"rank.by must be a score that can be computed; got {reads.by}, for which too few of the {reads.n_images} "
            "images differ. Use rank.by=null, or images that are not copies of one another."
        )
    return np.where(scores.dead, 0.0, evidence[name].to_numpy())


def _trust(reads: RankReads, scores: ChannelScores) -> Trust:
    """Return how far the ranking can be trusted."""
    evidence, curve = scores.evidence[reads.statistic], scores.curves[reads.statistic]
    n_significant = int((evidence.q_value < SIGNIFICANT).sum()) if "q_value" in evidence else None
    if not len(curve):
        return Trust(n_significant=n_significant)
    found = reliability(float(curve[-1, 1]))
    points = tuple((int(images), float(value)) for images, value in curve)
    stands_for = None if reads.by == reads.statistic else reads.statistic
    return Trust(found, images_for(reads.n_images, found), n_significant, points, stands_for)


STAGE = Stage("rank", 3, "channels", Ranking, select, run)
