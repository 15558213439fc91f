"""score: ACE between each channel's components and the class score gives two statistics, and how sure they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import Activations, ChannelScores, FloatArray, Projections
from pipeline.errors import InputError
from pipeline.numerics import ace_package
from pipeline.numerics.ace import AceResult, optimal_transforms
from pipeline.numerics.evidence import cross_fitted, halves, permutation_null
from pipeline.settings import ScoreSettings, Settings, has_folds, has_halves
from pipeline.sources.base import Progress

VERSION = 3


@dataclass(frozen=True)
class ScoreReads:
    """What the stage reads; both statistics are always computed, so which one ranks is not among it."""

    score: ScoreSettings
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, in plain JSON types; the number of threads does not."""
        decisive = asdict(self.score)
        del decisive["n_jobs"], decisive["statistic"]
        return {**decisive, "spans": list(self.score.spans), "seed": self.seed}


def select(settings: Settings) -> ScoreReads:
    """Pick what this stage reads."""
    return ScoreReads(settings.score, settings.seed)


def run(
    reads: ScoreReads, projections: Projections, activations: Activations, *, folder: Path, progress: Progress
) -> ChannelScores:
    """Return every channel's scores, transforms and evidence, written below `folder`.

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
    values, class_score = projections.values[living], activations.class_score
    found = _solve(reads.score, values, class_score, progress)
    evidence, curves = _evidence(reads, values, class_score, found, progress)
    scores = ChannelScores(
        maximal=np.zeros(n_channels),
        first=np.zeros(n_channels),
        r_squared=np.zeros(n_channels),
        iterations=np.zeros(n_channels, dtype=np.int64),
        dead=projections.dead,
        phi=np.zeros((n_channels, n_images, n_components)),
        theta=np.zeros((n_channels, n_images)),
        evidence={name: table.set_index(living).reindex(range(n_channels)) for name, table in evidence.items()},
        curves=curves,
    )
    for name, result in vars(found).items():
        getattr(scores, name)[living] = result
    return scores.save(folder)


def _solve(score: ScoreSettings, values: FloatArray, class_score: FloatArray, progress: Progress) -> AceResult:
    if score.solver == "ace":
        return ace_package.optimal_transforms(
            values, class_score, delrsq=score.delrsq, maxit=score.maxit, nterm=score.nterm,
            n_jobs=score.n_jobs or -1, progress=progress,
        )  # fmt: skip
    return optimal_transforms(values, class_score, **_solver(score))


def _solver(score: ScoreSettings) -> dict[str, Any]:
    names = ("bass", "spans", "delrsq", "maxit", "nterm")
    return {**{name: getattr(score, name) for name in names}, "n_threads": score.n_jobs or None}


def _evidence(
    reads: ScoreReads, values: FloatArray, class_score: FloatArray, found: AceResult, progress: Progress
) -> tuple[dict[str, pd.DataFrame], dict[str, FloatArray]]:
    """Return how sure each living channel is, always by the compiled solver: the package would take days."""
    score, n_channels = reads.score, len(values)
    with_folds, with_halves = has_folds(score, len(class_score)), has_halves(score, len(class_score))
    n_folds = score.folds * score.repeats if with_folds else 0
    n_work = 1 + score.permutations + n_folds + (score.bootstrap // 2 if with_halves else 0)
    n_done = 0

    def tick() -> None:
        nonlocal n_done
        n_done += 1
        progress(n_channels * n_done // n_work, n_channels)

    tick()
    observed = {"maximal": found.maximal, "first": found.first}
    given: dict[str, Any] = {"seed": reads.seed, "tick": tick, **_solver(score)}
    tables = {name: pd.DataFrame(index=range(n_channels)) for name in observed}
    curves: dict[str, FloatArray] = {name: np.empty((0, 2)) for name in observed}
    if with_folds:
        held_out = cross_fitted(values, class_score, score.folds, n_repeats=score.repeats, **given)
        for name, table in tables.items():
            table["cross_fitted"] = held_out[name]
    if with_halves:
        for name, each in halves(values, class_score, observed, score.bootstrap, top_k=score.top_k, **given).items():
            columns = {key: value for key, value in vars(each).items() if key != "curve"}
            tables[name] = tables[name].assign(**columns)
            curves[name] = each.curve
    if score.permutations:
        for name, null in permutation_null(values, class_score, observed, score.permutations, **given).items():
            excess = (observed[name] - null.mean) / np.where(null.deviation > 0, null.deviation, np.inf)
            tables[name] = tables[name].assign(
                null_mean=null.mean, null_deviation=null.deviation, excess=excess, p_value=null.p_value,
                q_value=null.q_value, p_family=null.p_family,
            )  # fmt: skip
    return tables, curves
