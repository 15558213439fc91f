"""The order of the stages, what is taken from the store and what is computed, and who is told."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from pipeline.artifacts import (
    Ablations,
    Activations,
    Artifact,
    ChannelScores,
    Effects,
    Figures,
    ImageSet,
    Projections,
    Ranking,
)
from pipeline.resolve import check_network, resolve
from pipeline.settings import Settings
from pipeline.stages import ablate, activate, download, rank, reduce, remove, score, visualize
from pipeline.store import ArtifactKey, Store, artifact_key, storage_errors


@dataclass(frozen=True)
class Stage:
    """One step: the module that takes it, the artifacts it builds on, the artifact it makes."""

    name: str
    module: ModuleType
    upstream: tuple[str, ...]
    artifact: type[Artifact]
    counts: str


STAGES = (
    Stage("download", download, (), ImageSet, "images"),
    Stage("activate", activate, ("download",), Activations, "images"),
    Stage("reduce", reduce, ("activate",), Projections, "channels"),
    Stage("score", score, ("download", "activate", "reduce"), ChannelScores, "channels"),
    Stage("rank", rank, ("score",), Ranking, "channels"),
    Stage("ablate", ablate, ("download", "activate"), Ablations, "passes"),
    Stage("remove", remove, ("download", "activate", "ablate", "rank"), Effects, "passes"),
    Stage("visualize", visualize, ("download", "activate", "reduce", "score", "rank", "remove"), Figures, "steps"),
)


@dataclass(frozen=True)
class StageReport:
    """How one stage went: its artifact's key, whether it came from the store, seconds of wall-clock time."""

    stage: Stage
    key: ArtifactKey
    is_cached: bool
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves: resolved settings, artifacts and their folders by stage, and the run's folder."""

    settings: Settings
    run_dir: Path
    artifacts: Mapping[str, Any]
    folders: Mapping[str, Path]
    reports: tuple[StageReport, ...]

    @property
    def ranking(self) -> Ranking:
        """The channels, best first."""
        ranking: Ranking = self.artifacts["rank"]
        return ranking

    @property
    def effects(self) -> Effects:
        """How the class score moves when channels are removed."""
        effects: Effects = self.artifacts["remove"]
        return effects

    @property
    def sentences(self) -> list[str]:
        """What a reader must know of the ranking, the most important first."""
        borne_out = self.effects.faithfulness.sentence
        return [*self.ranking.sentences, *([borne_out] if borne_out else [])]

    @property
    def notes(self) -> list[str]:
        """What was not done, where one may wonder."""
        figures: Figures = self.artifacts["visualize"]
        return [*([self.effects.note] if self.effects.note else []), *figures.notes]


class Observer(Protocol):
    """Somebody who is told how a run goes: the console, the tracker. It changes nothing."""

    def started(self, settings: Settings) -> None:
        """Hear that a run begins, with the settings as they were asked for."""

    def resolved(self, settings: Settings) -> None:
        """Hear what the settings mean."""

    def noted(self, text: str) -> None:
        """Hear of something that a person would want to know: damage mended, another run waited for."""

    def stage_started(self, stage: Stage) -> Callable[[int, int], None] | None:
        """Hear that a stage is computed; return what shall be called with (done, total), if anything."""

    def stage_finished(self, report: StageReport, artifact: Any) -> None:
        """Hear that a stage's artifact is there."""

    def finished(self, result: RunResult) -> None:
        """Hear that all is there."""

    def failed(self, error: BaseException) -> None:
        """Hear that the run ends here."""


def run(settings: Settings, run_dir: Path, observers: Sequence[Observer] = ()) -> RunResult:
    """Answer one question: go through the stages, computing what the store does not hold.

    Parameters
    ----------
    settings : Settings
        What is asked.
    run_dir : Path
        Where the ranking, the figures and the resolved settings are put, for people to find.
    observers : sequence of Observer
        Told in this order.

    Raises
    ------
    PipelineError
        If it cannot be answered; nothing half written stays behind, and what is finished stays in the store.
    """
    try:
        for observer in observers:
            observer.started(settings)
        settings = resolve(settings)
        for observer in observers:
            observer.resolved(settings)
        with store_of(settings, observers) as store:
            result = _run_stages(settings, run_dir, store, observers)
            with storage_errors("the run's results", run_dir):
                _publish(result)
        for observer in observers:
            observer.finished(result)
    except BaseException as error:  # Ctrl-C too: the tracker must not be left with a run that never ends
        for observer in observers:
            observer.failed(error)
        raise
    return result


def plan(settings: Settings) -> dict[str, ArtifactKey]:
    """Return the key of every stage's artifact, by the stage's name; `settings` must be resolved."""
    keys: dict[str, ArtifactKey] = {}
    for stage in STAGES:
        reads = stage.module.select(settings).identity()
        keys[stage.name] = artifact_key(
            stage.name, stage.module.VERSION, reads, {name: keys[name] for name in stage.upstream}
        )
    return keys


def store_of(settings: Settings, observers: Sequence[Observer] = ()) -> Store:
    """Return the artifact store of these settings, whose notes the observers hear."""

    def note(text: str) -> None:
        for observer in observers:
            observer.noted(text)

    return Store(Path(settings.paths.outputs).absolute() / "store", note)


def advance(
    stage: Stage,
    settings: Settings,
    store: Store,
    key: ArtifactKey,
    artifacts: Mapping[str, Any],
    observers: Sequence[Observer] = (),
) -> tuple[Path, bool]:
    """Return the folder of one stage's artifact, and whether the store had it; `artifacts` are those upstream."""

    def fill(folder: Path) -> None:
        callbacks = [callback for observer in observers if (callback := observer.stage_started(stage))]
        upstream = (artifacts[name] for name in stage.upstream)
        stage.module.run(stage.module.select(settings), *upstream, folder=folder, progress=_fan_out(callbacks))

    return store.obtain(key, fill)


def _run_stages(settings: Settings, run_dir: Path, store: Store, observers: Sequence[Observer]) -> RunResult:
    keys = plan(settings)
    if store.find(keys["activate"]) is None:
        check_network(settings)
    artifacts: dict[str, Any] = {}
    folders: dict[str, Path] = {}
    reports = []
    for stage in STAGES:
        start = time.perf_counter()
        folder, is_cached = advance(stage, settings, store, keys[stage.name], artifacts, observers)
        folders[stage.name] = folder
        artifacts[stage.name] = stage.artifact.load(folder)
        report = StageReport(stage, keys[stage.name], is_cached, time.perf_counter() - start)
        reports.append(report)
        for observer in observers:
            observer.stage_finished(report, artifacts[stage.name])
    return RunResult(settings, run_dir, artifacts, folders, tuple(reports))


def _fan_out(callbacks: Sequence[Callable[[int, int], None]]) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        for callback in callbacks:
            callback(done, total)

    return progress


def _publish(result: RunResult) -> None:
    """Put what people look for into the run's folder, each file whole or not at all."""
    drawn: Figures = result.artifacts["visualize"]
    sources = {name: result.folders["rank"] / name for name in (Ranking.CSV, Ranking.PARQUET)}
    if result.effects.is_measured:
        sources[Effects.CSV] = result.folders["remove"] / Effects.CSV
    sources |= {f"figures/{path.relative_to(drawn.folder)}": path for path in drawn.all_pictures}
    for name, source in sources.items():
        target = result.run_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target.with_name(target.name + ".part"))
        os.replace(target.with_name(target.name + ".part"), target)
    if (report := result.artifacts["download"].report) is not None:
        shutil.copyfile(report, result.run_dir / "download_report.csv")
    settings = json.dumps(asdict(result.settings), indent=1) + "\n"
    (result.run_dir / "settings.json").write_text(settings, encoding="utf-8")
