"""rank: the channels by their score, largest first, ties by index, dead ones last."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.artifacts import ChannelScores, Ranking
from pipeline.settings import Settings
from pipeline.sources.base import Progress

VERSION = 1


@dataclass(frozen=True)
class RankReads:
    """What the stage reads: the statistic to rank by, and what the table says of the run beside each channel."""

    statistic: Literal["maximal", "first"]
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
    return RankReads(
        statistic=settings.score.statistic,
        model=settings.model.name,
        layer=settings.layer,
        class_name=settings.class_name,
        target_class=settings.target_class,
        n_images=settings.n_images,
        n_components=settings.n_components,
        seed=settings.seed,
    )


def run(reads: RankReads, scores: ChannelScores, *, folder: Path, progress: Progress) -> Ranking:
    """Return the ranking, written below `folder` as CSV and Parquet."""
    score = getattr(scores, reads.statistic)
    channels = np.arange(len(score))
    order = np.lexsort((channels, -score, scores.dead))
    table = pd.DataFrame(
        {
            "rank": channels + 1,
            "channel": order,
            "score": score[order],
            "score_maximal": scores.maximal[order],
            "score_first": scores.first[order],
            "r_squared": scores.r_squared[order],
            "iterations": scores.iterations[order],
            "dead": scores.dead[order],
        }
    )
    progress(len(order), len(order))
    return Ranking(table.assign(**asdict(reads))).save(folder)
