"""score by parts of the channels.

Everything that ACE computes of a channel depends on this channel alone; only the choice of the smoothness and the
summaries of the evidence (ranks, pooled nulls) look at all channels. Therefore, each task runs the whole ranker on its
channels and records what the estimator returns. The command then runs the same ranker on all channels, with an
estimator that returns what was recorded, so that random draws and summaries come from the same code and have the same
bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Float64Array, FloatArray, Int64Array
from pipeline.artifacts import Activations, ChannelScores, ImageSet, Projections
from pipeline.artifacts.base import save_array
from pipeline.engine.division import MULTIPLE, Division, Span
from pipeline.engine.maps import images_of
from pipeline.engine.task import Shard
from pipeline.numerics.ace import AceEstimator, AceResult, ByStatistic, SplineAce
from pipeline.numerics.groups import Groups
from pipeline.numerics.spline_smoothness import choice_folds, grid_settings, held_out_correlations, judging_channels
from pipeline.progress import Progress
from pipeline.rankers import RANKERS
from pipeline.rankers.ace import AceSteps, fit, score_by_ace
from pipeline.settings import AceSettings
from pipeline.stages import score as stage

CHANNELS_TO_CHOOSE = MULTIPLE  # of a task that judges the smoothness by at most 128 channels


def divided_score(
    division: Division, images: ImageSet, activations: Activations, projections: Projections, progress: Progress
) -> ChannelScores:
    """Return the scores of all channels: in parts for ACE, by one task for rankers that run the network."""
    reads = stage.select(division.settings)
    stage.check_varying(reads, projections)
    if not isinstance(reads.score, AceSettings):
        if not RANKERS[reads.score.kind].runs_network:
            return stage.run(reads, images=images, activations=activations, projections=projections, progress=progress)
        whole = [(0, len(projections.dead))]
        (folder,) = division.each("whole", compute_whole, whole, counts="channels", runs_network=True)
        return ChannelScores.load(folder)
    inputs = stage.inputs_of(reads, images, activations, projections, lambda done, total: None)
    n_channels = int((~projections.dead).sum())
    steps = _Steps(division, n_channels, progress)
    return score_by_ace(inputs, AceSteps(steps.held_out, steps.fit, steps.estimator))


def compute_whole(shard: Shard, folder: Path) -> None:
    """Write the scores of all channels."""
    found = stage.run(
        stage.select(shard.settings),
        images=images_of(shard.upstream["images"]),
        activations=Activations.load(shard.upstream["activations"]),
        projections=Projections.load(shard.upstream["projections"]),
        progress=lambda done, total: None,
    )
    found.save(folder)


class _Steps:
    """The steps of ACE, computed in parts."""

    def __init__(self, division: Division, n_channels: int, progress: Progress) -> None:
        self._division, self._n_channels, self._progress = division, n_channels, progress
        self._calls: _Recorded | None = None
        self._has_judged = False

    def held_out(
        self, values: FloatArray, class_score: FloatArray, folds: Any, settings: Any, **given: Any
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
        """Compute everything with this estimator in parts, and return an estimator that returns what was recorded."""
        # The choice determines the estimator: with another one, the parts have other names.
        smoothness = estimator.smoothness if isinstance(estimator, SplineAce) else None
        spans = self._division.channels(self._n_channels)
        self._calls = _Recorded(estimator, lambda n_components: self._parts(spans, smoothness, n_components))
        return self._calls

    def fit(
        self,
        score: AceSettings,
        estimator: AceEstimator,
        values: FloatArray,
        class_score: FloatArray,
        progress: Progress,
    ) -> AceResult:
        """Return the recorded scores and transforms."""
        return estimator.fit(values, class_score)

    def _parts(self, spans: Sequence[Span], smoothness: Any, n_components: int) -> list[Path]:
        chosen = None if smoothness is None else (smoothness.predictors, smoothness.response, smoothness.shrinkage)
        return self._division.each(
            "score", compute_scores, spans, counts="varying channels", report=self._progress,
            smoothness=chosen, n_components=n_components,
        )  # fmt: skip


def compute_choice(shard: Shard, folder: Path) -> None:
    """Write the held-out correlations of the grid for some of the channels that take part in the choice."""
    inputs = _inputs(shard)
    values = _varying_values(shard.upstream["projections"])
    chosen = judging_channels(len(values))[shard.start : shard.stop]
    class_score = inputs.activations.class_score
    groups = inputs.copies or Groups.without_copies(len(class_score))
    found = held_out_correlations(
        values[chosen], class_score, choice_folds(groups, inputs.seed), grid_settings(values.shape[2]),
        n_threads=shard.n_threads,
    )  # fmt: skip
    save_array(folder / "held_out.npy", found)


def compute_scores(shard: Shard, folder: Path) -> None:
    """Write what the estimator returns when the ranker scores some of the varying channels."""
    inputs, chosen = _inputs(shard), shard.given["smoothness"]
    values = _varying_values(shard.upstream["projections"])[shard.start : shard.stop]
    values = values[:, :, : shard.given["n_components"]]
    own = replace(
        inputs,
        settings=replace(inputs.settings, smoothness=chosen, n_jobs=shard.n_threads),
        projections=Projections(values, np.empty((len(values), 0)), np.zeros(len(values), dtype=bool)),
        choose_components=False,
    )
    recorder: list[_Recorder] = []

    def recording(estimator: AceEstimator) -> AceEstimator:
        recorder.append(_Recorder(estimator, folder))
        return recorder[0]

    def recorded_fit(score: AceSettings, _: AceEstimator, *data: Any) -> AceResult:
        return recorder[0].record_result(fit(score, recorder[0].estimator, *data))

    score_by_ace(own, AceSteps(fit=recorded_fit, estimator=recording))


def _inputs(shard: Shard) -> Any:
    """Return the data of the ranker, without the projections."""
    nothing = Projections(np.empty((0, 0, 0)), np.empty((0, 0)), np.empty(0, dtype=bool))
    images, activations = images_of(shard.upstream["images"]), Activations.load(shard.upstream["activations"])
    return stage.inputs_of(stage.select(shard.settings), images, activations, nothing, lambda done, total: None)


def _varying_values(folder: Path) -> Any:
    """Return the projections of the varying channels, which are read when they are indexed."""
    values, dead = np.load(folder / "values.npy", mmap_mode="r"), np.load(folder / "dead.npy")
    return _Rows(values, np.flatnonzero(~dead))


class _Rows:
    """Some rows of an array in a file, of which only those are read that are asked for."""

    def __init__(self, values: NDArray[Any], rows: Int64Array) -> None:
        self._values, self._rows, self.shape = values, rows, (len(rows), *values.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, chosen: Any) -> NDArray[Any]:
        return np.asarray(self._values[self._rows[chosen]])


class _Recorder:
    """Estimator that writes what another one returns into a folder, in the order of the calls."""

    def __init__(self, estimator: AceEstimator, folder: Path) -> None:
        self.estimator, self._folder, self._n_calls = estimator, folder, 0

    @property
    def statistics(self) -> tuple[str, ...]:
        return self.estimator.statistics

    def fit(self, predictors: FloatArray, response: FloatArray, progress: Progress | None = None) -> AceResult:
        return self.record_result(self.estimator.fit(predictors, response, progress))

    def permuted(self, *data: Any) -> ByStatistic:
        return self._record(self.estimator.permuted(*data))

    def on_subsets(self, *data: Any) -> ByStatistic:
        return self._record(self.estimator.on_subsets(*data))

    def held_out(self, predictors: FloatArray, response: FloatArray, held: Int64Array) -> ByStatistic:
        return self._record(self.estimator.held_out(predictors, response, held))

    def record_result(self, found: AceResult) -> AceResult:
        """Write a result with its transforms."""
        arrays = {each.name: getattr(found, each.name) for each in fields(found) if each.name != "statistics"}
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
    compute: Any  # from the number of components to the folders
    folders: list[Path] | None = None
    n_calls: int = 0

    @property
    def statistics(self) -> tuple[str, ...]:
        return self.estimator.statistics

    def fit(self, predictors: FloatArray, response: FloatArray, progress: Progress | None = None) -> AceResult:
        found = self._next(predictors)
        statistics = {name: found.pop(name) for name in self.statistics}
        return AceResult(statistics, **found)

    def permuted(self, predictors: FloatArray, *data: Any) -> ByStatistic:
        return self._next(predictors)

    def on_subsets(self, predictors: FloatArray, *data: Any) -> ByStatistic:
        return self._next(predictors)

    def held_out(self, predictors: FloatArray, response: FloatArray, held: Int64Array) -> ByStatistic:
        return self._next(predictors)

    def _next(self, predictors: FloatArray) -> dict[str, Any]:
        """Return the result of the next call for all channels."""
        if self.folders is None:
            self.folders = self.compute(predictors.shape[2])
        prefix = f"{self.n_calls}."
        self.n_calls += 1
        names = sorted(path.name for path in self.folders[0].glob(f"{prefix}*.npy"))
        return {
            name.removeprefix(prefix).removesuffix(".npy"): np.concatenate(
                [np.load(folder / name, mmap_mode="r") for folder in self.folders]
            )
            for name in names
        }
