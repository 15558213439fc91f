"""score by parts of the channels.

Everything that ACE computes of a channel depends on this channel alone; only the choice of the smoothness and the
summaries of the evidence (ranks, pooled nulls) look at all channels. Therefore, each task runs the whole ranker on its
channels and records what the estimator returns. The command then runs the same ranker on all channels, with an
estimator that returns what was recorded, so that random draws and summaries come from the same code and have the same
bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import Float64Array, FloatArray
from pipeline.artifacts import AceFit, Activations, ChannelScores, ImageSet, Projections, Workspace
from pipeline.artifacts.base import save_array
from pipeline.engine.division import MULTIPLE, Division, Span
from pipeline.engine.task import Shard, images_of
from pipeline.numerics.ace import AceEstimator, AceResult, ByStatistic, GivenPredictors, SplineAce
from pipeline.numerics.groups import Groups
from pipeline.numerics.predictors import Predictors, Transforms
from pipeline.numerics.spline_smoothness import choice_folds, grid_settings, held_out_correlations, judging_channels
from pipeline.progress import Progress
from pipeline.rankers import RANKERS
from pipeline.rankers.ace import AceSteps, fit, score_by_ace
from pipeline.settings import AceSettings
from pipeline.stages import score as stage

CHANNELS_TO_CHOOSE = MULTIPLE  # of a task that judges the smoothness by at most 128 channels
Smoothness = tuple[float, float, float] | None


def divided_score(
    division: Division,
    workspace: Workspace,
    images: ImageSet,
    activations: Activations,
    projections: Projections,
    progress: Progress,
) -> ChannelScores:
    """Return the scores of all channels: in parts for ACE, by one task for rankers that run the network."""
    reads = stage.select(division.settings)
    stage.check_varying(reads, projections)
    if not isinstance(reads.score, AceSettings):
        if not RANKERS[reads.score.kind].runs_network:
            return stage.run(
                reads, images=images, activations=activations, projections=projections, workspace=workspace,
                progress=progress,
            )  # fmt: skip
        whole = [(0, len(projections.dead))]
        (folder,) = division.each("whole", compute_whole, whole, counts="channels", runs_network=True)
        return ChannelScores.load(folder)
    inputs = stage.inputs_of(reads, images, activations, projections, workspace, lambda done, total: None)
    steps = _Steps(division, int((~projections.dead).sum()), progress)
    return score_by_ace(inputs, AceSteps(steps.held_out, steps.fit, steps.estimator))


def compute_whole(shard: Shard, folder: Path) -> None:
    """Write the scores of all channels."""
    found = stage.run(
        stage.select(shard.settings),
        images=images_of(shard.upstream["images"]),
        activations=Activations.load(shard.upstream["activations"]),
        projections=Projections.load(shard.upstream["projections"]),
        workspace=Workspace(folder),
        progress=lambda done, total: None,
    )
    found.save(folder)


class _Steps:
    """The steps of ACE, computed in parts."""

    def __init__(self, division: Division, n_channels: int, progress: Progress) -> None:
        self._division, self._progress = division, progress
        self._spans = division.channels(n_channels)
        self._has_judged = False

    def held_out(
        self, values: Predictors, class_score: FloatArray, folds: Any, settings: Any, **given: Any
    ) -> Float64Array:
        """Return the held-out correlations of the grid from parts; those of the few numbers of components follow."""
        if self._has_judged:
            return held_out_correlations(values, class_score, folds, settings, **given)
        self._has_judged = True
        spans = self._division.channels(len(values), CHANNELS_TO_CHOOSE)
        folders = self._division.each(
            "choose", compute_choice, spans, counts="channels", report=lambda done, total: None
        )
        return np.concatenate([np.load(folder / "held_out.npy") for folder in folders], axis=2)

    def estimator(self, estimator: AceEstimator) -> AceEstimator:
        """Return an estimator that returns what `estimator` returns in the tasks."""
        return _Recorded(estimator, self._parts, self._spans)

    def fit(
        self,
        score: AceSettings,
        estimator: AceEstimator,
        values: Predictors,
        class_score: FloatArray,
        transforms: Transforms,
        progress: Progress,
    ) -> AceResult:
        """Return the recorded scores, and write the transforms."""
        return estimator.fit(values, class_score, transforms=transforms)

    def _parts(self, estimator: AceEstimator, n_components: int) -> list[Path]:
        """Compute everything with an estimator in parts; return their folders."""
        chosen: Smoothness = None
        if isinstance(estimator, SplineAce):
            smoothness = estimator.smoothness
            chosen = smoothness.predictors, smoothness.response, smoothness.shrinkage
        return self._division.each(
            "score", compute_scores, self._spans, counts="varying channels", report=self._progress,
            smoothness=chosen, n_components=n_components,
        )  # fmt: skip


def compute_choice(shard: Shard, folder: Path) -> None:
    """Write the held-out correlations of the grid for some of the channels that take part in the choice."""
    inputs, values = _inputs(shard, folder), judging_channels(_varying(shard))
    chosen = values.of_channels(np.arange(shard.start, shard.stop))
    class_score = inputs.activations.class_score
    groups = inputs.copies or Groups.without_copies(len(class_score))
    found = held_out_correlations(
        chosen, class_score, choice_folds(groups, inputs.seed), grid_settings(values.shape[2]),
        n_threads=shard.n_threads,
    )  # fmt: skip
    save_array(folder / "held_out.npy", found)


def compute_scores(shard: Shard, folder: Path) -> None:
    """Write what the estimator returns when the ranker scores some of the varying channels."""
    inputs = _inputs(shard, folder)
    values = _varying(shard).of_channels(np.arange(shard.start, shard.stop)).leading(shard.given["n_components"])
    values_read = values.read(0, len(values))
    own = replace(
        inputs,
        settings=replace(inputs.settings, smoothness=shard.given["smoothness"], n_jobs=shard.n_threads),
        projections=Projections(values_read, np.empty((len(values), 0)), np.zeros(len(values), dtype=bool)),
        choose_components=False,
    )
    recorder: list[_Recorder] = []

    def recording(estimator: AceEstimator) -> AceEstimator:
        recorder.append(_Recorder(estimator, folder))
        return recorder[0]

    def recorded_fit(score: AceSettings, _: AceEstimator, *data: Any) -> AceResult:
        return recorder[0].record_result(fit(score, recorder[0].estimator, *data))

    found = score_by_ace(own, AceSteps(fit=recorded_fit, estimator=recording)).fit
    assert found is not None
    save_array(folder / AceFit.PHI, found.phi)
    save_array(folder / AceFit.THETA, found.theta)


def _inputs(shard: Shard, folder: Path) -> Any:
    """Return the data of the ranker, without the projections."""
    nothing = Projections(np.empty((0, 0, 0)), np.empty((0, 0)), np.empty(0, dtype=bool))
    images, activations = images_of(shard.upstream["images"]), Activations.load(shard.upstream["activations"])
    reads = stage.select(shard.settings)
    return stage.inputs_of(reads, images, activations, nothing, Workspace(folder), lambda done, total: None)


def _varying(shard: Shard) -> Predictors:
    """Return the projections of the varying channels, of which only those are read that are needed."""
    folder = shard.upstream["projections"]
    return Predictors(
        np.load(folder / Projections.VALUES, mmap_mode="r"), np.flatnonzero(~np.load(folder / "dead.npy"))
    )


class _Recorder:
    """Estimator that writes what another one returns into a folder, in the order of the calls."""

    def __init__(self, estimator: AceEstimator, folder: Path) -> None:
        self.estimator, self._folder, self._n_calls = estimator, folder, 0

    @property
    def statistics(self) -> tuple[str, ...]:
        return self.estimator.statistics

    def fit(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        progress: Progress | None = None,
        transforms: Transforms | None = None,
    ) -> AceResult:
        return self.record_result(self.estimator.fit(predictors, response, progress, transforms))

    def permuted(self, *data: Any) -> ByStatistic:
        return self._record(self.estimator.permuted(*data))

    def on_subsets(self, *data: Any) -> ByStatistic:
        return self._record(self.estimator.on_subsets(*data))

    def held_out(self, *data: Any) -> ByStatistic:
        return self._record(self.estimator.held_out(*data))

    def record_result(self, found: AceResult) -> AceResult:
        """Write a result without its transforms."""
        arrays = {name: getattr(found, name) for name in ("r_squared", "iterations", "degrees_of_freedom")}
        self._record({**found.statistics, **{name: array for name, array in arrays.items() if array is not None}})
        return found

    def _record(self, found: ByStatistic) -> ByStatistic:
        for name, array in found.items():
            save_array(self._folder / f"{self._n_calls}.{name}.npy", array)
        self._n_calls += 1
        return found


@dataclass
class _Recorded:
    """Estimator that returns what was recorded in several folders, in the order of the calls."""

    estimator: AceEstimator
    compute: Any  # from the estimator and the number of components to the folders
    spans: Sequence[Span]
    folders: list[Path] = field(default_factory=list)
    n_calls: int = 0

    @property
    def statistics(self) -> tuple[str, ...]:
        return self.estimator.statistics

    def fit(
        self,
        predictors: GivenPredictors,
        response: FloatArray,
        progress: Progress | None = None,
        transforms: Transforms | None = None,
    ) -> AceResult:
        found = self._next(predictors)
        statistics = {name: found.pop(name) for name in self.statistics}
        if transforms is None:  # only the scores are used
            return AceResult(statistics, **found, phi=np.empty((0, 0, 0)), theta=np.empty((0, 0)))
        for (start, _), folder in zip(self.spans, self.folders, strict=True):
            phi, theta = (np.load(folder / name, mmap_mode="r") for name in (AceFit.PHI, AceFit.THETA))
            transforms.put(start, phi, theta)
        return AceResult(statistics, **found, phi=transforms.phi, theta=transforms.theta)

    def permuted(self, predictors: GivenPredictors, *data: Any) -> ByStatistic:
        return self._next(predictors)

    def on_subsets(self, predictors: GivenPredictors, *data: Any) -> ByStatistic:
        return self._next(predictors)

    def held_out(self, predictors: GivenPredictors, *data: Any) -> ByStatistic:
        return self._next(predictors)

    def _next(self, predictors: GivenPredictors) -> dict[str, Any]:
        """Return the result of the next call for all channels."""
        self.folders = self.folders or self.compute(self.estimator, predictors.shape[2])
        prefix = f"{self.n_calls}."
        self.n_calls += 1
        names = sorted(path.name for path in self.folders[0].glob(f"{prefix}*.npy"))
        return {
            name.removeprefix(prefix).removesuffix(".npy"): np.concatenate(
                [np.load(folder / name, mmap_mode="r") for folder in self.folders]
            )
            for name in names
        }
