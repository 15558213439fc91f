"""score: ACE between each channel's components and the class score gives the channel's two statistics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import Activations, ChannelScores, Projections
from pipeline.errors import InputError
from pipeline.numerics import ace_package
from pipeline.numerics.ace import optimal_transforms
from pipeline.settings import ScoreSettings, Settings
from pipeline.sources.base import Progress

VERSION = 2


@dataclass(frozen=True)
class ScoreReads:
    """What the stage reads; both statistics are always computed, so which one ranks is not among it."""

    score: ScoreSettings

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, in plain JSON types; the number of threads does not."""
        score = self.score
        return {
            "solver": score.solver,
            "bass": score.bass,
            "spans": list(score.spans),
            "delrsq": score.delrsq,
            "maxit": score.maxit,
            "nterm": score.nterm,
        }


def select(settings: Settings) -> ScoreReads:
    """Pick what this stage reads."""
    return ScoreReads(settings.score)


def run(
    reads: ScoreReads, projections: Projections, activations: Activations, *, folder: Path, progress: Progress
) -> ChannelScores:
    """Return every channel's scores and transforms, written below `folder`.

    Raises
    ------
    InputError
        If every channel is dead: there is nothing to rank.
    """
    n_channels, n_images, n_components = projections.values.shape
    living = np.flatnonzero(~projections.dead)
    if not len(living):
        raise InputError(
            f"at least one channel must vary over the images; got {n_channels} dead ones. Choose another layer."
        )
    score = reads.score
    stopping: dict[str, Any] = {
        "delrsq": score.delrsq, "maxit": score.maxit, "nterm": score.nterm, "progress": progress
    }  # fmt: skip
    values, class_score = projections.values[living], activations.class_score
    if score.solver == "compiled":
        found = optimal_transforms(
            values, class_score, bass=score.bass, spans=score.spans, n_threads=score.n_jobs or None, **stopping
        )
    else:
        found = ace_package.optimal_transforms(values, class_score, n_jobs=score.n_jobs or -1, **stopping)
    scores = ChannelScores(
        maximal=np.zeros(n_channels),
        first=np.zeros(n_channels),
        r_squared=np.zeros(n_channels),
        iterations=np.zeros(n_channels, dtype=np.int64),
        dead=projections.dead,
        phi=np.zeros((n_channels, n_images, n_components)),
        theta=np.zeros((n_channels, n_images)),
    )
    for name, result in vars(found).items():
        getattr(scores, name)[living] = result
    return scores.save(folder)
