"""score: ACE between each channel's components and the class score, or another ranker; and how sure the scores are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.artifacts import AceFit, Activations, ChannelScores, FloatArray, ImageSet, Projections
from pipeline.errors import InputError
from pipeline.numerics import ace_package
from pipeline.numerics.ace import AceResult, both_correlations, optimal_transforms
from pipeline.numerics.evidence import Both, corrected, cross_fitted, halves, permutation_null
from pipeline.settings import AceSettings, ModelSettings, ScoreSettings, Settings, TargetSettings, has_folds, has_halves
from pipeline.sources.base import Progress
from pipeline.stages.rankers import scores_by_ranker

VERSION = 4


@dataclass(frozen=True)
class ScoreReads:
    """What the stage reads; both statistics are always computed, so which one ranks is not among it."""

    score: ScoreSettings
    model: ModelSettings
    layer: str
    target: TargetSettings
    target_class: int | None
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what decides the result beyond the upstream artifacts, whose keys hold network, layer and target; the
        number of threads does not.
        """
        decisive = asdict(self.score)
        if isinstance(self.score, AceSettings):
            del decisive["n_jobs"], decisive["statistic"]
            decisive["spans"] = list(self.score.spans)
        return {**decisive, "seed": self.seed}


def select(settings: Settings) -> ScoreReads:
    """Pick what this stage reads; `settings` must be resolved."""
    return ScoreReads(
        settings.score, settings.model, settings.layer, settings.target, settings.target_class, settings.seed
    )


def run(
    reads: ScoreReads,
    images: ImageSet,
    activations: Activations,
    projections: Projections,
    *,
    folder: Path,
    progress: Progress,
) -> ChannelScores:
    """Return every channel's scores, transforms and evidence, written below `folder`.

    Raises
    ------
    InputError
        If every channel is dead: there is nothing to rank.
    NetworkError
        If the ranker asks of the network what it has not, see `pipeline.networks.contributions`.
    """
    if projections.dead.all():
        raise InputError(
            f"at least one channel must vary over the images; got {len(projections.dead)} dead ones. "
            "Choose another layer."
        )
    if isinstance(reads.score, AceSettings):
        scores = _by_ace(reads.score, reads.seed, projections, activations.class_score, progress)
    else:
        scores = scores_by_ranker(reads, images, activations, projections, progress)
    return scores.save(folder)


def _by_ace(
    score: AceSettings, seed: int, projections: Projections, class_score: FloatArray, progress: Progress
) -> ChannelScores:
    living, n_channels = np.flatnonzero(~projections.dead), len(projections.dead)
    values = projections.values[living]
    found = _solve(score, values, class_score, progress)
    evidence, curves = _evidence(score, seed, values, class_score, found, progress)

    def of_all(result: NDArray[Any]) -> NDArray[Any]:
        """Return a result of the living channels with 0 for the dead ones."""
        whole = np.zeros((n_channels, *result.shape[1:]), dtype=result.dtype)
        whole[living] = result
        return whole

    return ChannelScores(
        values={"maximal": of_all(found.maximal), "first": of_all(found.first)},
        dead=projections.dead,
        evidence={name: table.set_index(living).reindex(range(n_channels)) for name, table in evidence.items()},
        curves=curves,
        fit=AceFit(**{field.name: of_all(getattr(found, field.name)) for field in fields(AceFit)}),
    )


def _solve(score: AceSettings, values: FloatArray, class_score: FloatArray, progress: Progress) -> AceResult:
    if score.solver == "ace":
        return ace_package.optimal_transforms(
            values, class_score, parameters=score.parameters, n_jobs=score.n_jobs or -1, progress=progress
        )
    return optimal_transforms(values, class_score, **_solver(score))


def _solver(score: AceSettings) -> dict[str, Any]:
    return {"parameters": score.parameters, "n_threads": score.n_jobs or None}


def _evidence(
    score: AceSettings, seed: int, values: FloatArray, class_score: FloatArray, found: AceResult, progress: Progress
) -> tuple[dict[str, pd.DataFrame], dict[str, FloatArray]]:
    """Return how sure each living channel is, always by the compiled solver: the package would take days."""
    n_channels = len(values)
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
    given: dict[str, Any] = {"seed": seed, "tick": tick, **_solver(score)}
    tables = {name: pd.DataFrame(index=range(n_channels)) for name in observed}
    curves: dict[str, FloatArray] = {name: np.empty((0, 2)) for name in observed}
    if with_folds:
        held_out = cross_fitted(values, class_score, score.folds, n_repeats=score.repeats, **given)
        for name, table in tables.items():
            table["cross_fitted"] = held_out[name]
    if with_halves:

        def scorer(chosen: NDArray[np.int64]) -> Both:
            return both_correlations(values[:, chosen], class_score[chosen], **_solver(score))

        by_halves = halves(scorer, len(class_score), score.bootstrap, seed=seed, top_k=score.top_k, tick=tick)
        for name, each in by_halves.items():
            centre, low, high = corrected(observed[name], each.scores)
            tables[name] = tables[name].assign(corrected=centre, low=low, high=high, **each.columns)
            curves[name] = each.curve
    if score.permutations:
        for name, null in permutation_null(values, class_score, observed, score.permutations, **given).items():
            excess = (observed[name] - null.mean) / np.where(null.deviation > 0, null.deviation, np.inf)
            tables[name] = tables[name].assign(
                null_mean=null.mean, null_deviation=null.deviation, excess=excess, p_value=null.p_value,
                q_value=null.q_value, p_family=null.p_family,
            )  # fmt: skip
    return tables, curves
