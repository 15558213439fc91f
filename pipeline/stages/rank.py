"""rank: order the channels by their scores, and state how reliable the order is.

The best channel is first. Equal scores are ordered by the index of the channel, and dead channels are last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.arrays import FloatArray
from pipeline.artifacts import ChannelScores, Ranking, Trust
from pipeline.errors import InputError
from pipeline.settings import ACE_STATISTICS, AceSettings, Settings
from pipeline.stages.stage import Stage

SIGNIFICANT = 0.05  # q-values below are significant


@dataclass(frozen=True)
class RankReads:
    """Settings of the stage: the statistic to rank by, and the columns that identify the run in each row of the table.

    Attributes
    ----------
    by : str
        Name of the statistic or of the column of the evidence that channels are ranked by.
    statistic : str
        Name of the statistic whose evidence is shown.
    """

    by: str
    statistic: str
    model: str
    layer: str
    class_name: str | None
    target_class: int | None
    n_images: int
    n_components: int | float | Literal["auto"]
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, in plain JSON types."""
        return asdict(self)


def select(settings: Settings) -> RankReads:
    """Return the settings of this stage; `settings` must be resolved."""
    score = settings.score
    statistic = score.own_statistic if isinstance(score, AceSettings) else score.kind
    by = settings.rank.by or statistic
    return RankReads(
        by=by,
        statistic=by if by in ACE_STATISTICS else statistic,  # otherwise, `by` is a column of the evidence
        model=settings.model.label,
        layer=settings.layer,
        class_name=settings.class_name,
        target_class=settings.target_class,
        n_images=settings.n_images,
        n_components=settings.n_components,
        seed=settings.seed,
    )


def run(reads: RankReads, *, scores: ChannelScores) -> Ranking:
    """Return the ranking.

    The column ``score`` contains the values that the channels are ranked by. With ``by="q_value"``, it contains the
    excess instead, which also orders channels with equal q-values: many channels share the smallest one.
    """
    evidence = scores.evidence[reads.statistic]
    channels = np.arange(len(scores.dead))
    score = _score(reads, scores, evidence)
    q_value = evidence["q_value"].to_numpy() if reads.by == "q_value" else np.zeros(len(score))
    order = np.lexsort((channels, -score, q_value, scores.dead))
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
        table["r_squared"] = scores.fit.r_squared[order]
        if scores.fit.iterations is not None:
            table["iterations"] = scores.fit.iterations[order]
        if scores.fit.degrees_of_freedom is not None:
            table["degrees_of_freedom"] = scores.fit.degrees_of_freedom[order]
    table["dead"] = scores.dead[order]
    columns = asdict(reads)
    if reads.n_components == "auto" and scores.fit is not None:
        columns["n_components"] = scores.fit.phi.shape[2]
    return Ranking(table.assign(**columns), _trust(reads, scores))


def _score(reads: RankReads, scores: ChannelScores, evidence: pd.DataFrame) -> FloatArray:
    """Return the values that channels are ranked by, (n_channels,); larger is better, and 0 for a dead channel."""
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
    """Return the reliability of the ranking, and the number of significant channels."""
    from pipeline.numerics.evidence import images_for, reliability

    evidence, curve = scores.evidence[reads.statistic], scores.curves[reads.statistic]
    n_significant = int((evidence.q_value < SIGNIFICANT).sum()) if "q_value" in evidence else None
    error = scores.completeness_error
    if not len(curve):
        return Trust(n_significant=n_significant, completeness_error=error)
    found = reliability(float(curve[-1, 1]))
    points = tuple((int(images), float(value)) for images, value in curve)
    stands_for = None if reads.by == reads.statistic else reads.statistic
    return Trust(found, images_for(reads.n_images, found), n_significant, points, stands_for, error)


STAGE = Stage("rank", 6, "channels", Ranking, select, run)
