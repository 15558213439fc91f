"""score: ACE between each channel's components and the class score gives the channel's two statistics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from pipeline.artifacts import Activations, ChannelScores, Projections
from pipeline.errors import InputError
from pipeline.numerics.ace_package import fit_channel
from pipeline.settings import ScoreSettings, Settings
from pipeline.sources.base import Progress

VERSION = 1


@dataclass(frozen=True)
class ScoreReads:
    """What the stage reads; both statistics are always computed, so which one ranks is not among it."""

    score: ScoreSettings

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, in plain JSON types; the number of processes does not."""
        score = self.score
        return {"solver": score.solver, "delrsq": score.delrsq, "maxit": score.maxit, "nterm": score.nterm}


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
    scores = ChannelScores(
        maximal=np.zeros(n_channels),
        first=np.zeros(n_channels),
        r_squared=np.zeros(n_channels),
        iterations=np.zeros(n_channels, dtype=np.int64),
        dead=projections.dead,
        phi=np.zeros((n_channels, n_images, n_components)),
        theta=np.zeros((n_channels, n_images)),
    )
    settings = {name: getattr(reads.score, name) for name in ("delrsq", "maxit", "nterm")}
    fits = Parallel(n_jobs=reads.score.n_jobs or -1, return_as="generator")(
        delayed(fit_channel)(projections.values[channel], activations.class_score, **settings) for channel in living
    )
    for n_done, (channel, fit) in enumerate(zip(living, fits, strict=True), start=1):
        for name, value in vars(fit).items():
            getattr(scores, name)[channel] = value
        progress(n_done, len(living))
    return scores.save(folder)
