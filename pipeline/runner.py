"""Run the stages in order: take artifacts from the store or compute them, and tell the observers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import Activations, Artifact, Workspace
from pipeline.observer import Artifacts, Observer, RunResult, StageReport
from pipeline.resolve import check_network, resolve
from pipeline.run_folder import publish
from pipeline.settings import Settings
from pipeline.stages import load_stages
from pipeline.stages.stage import Stage
from pipeline.store import ArtifactKey, Store, artifact_key, storage_errors

STAGES: tuple[Stage[Any, Any], ...] = load_stages()
_MAKER = {stage.artifact: stage for stage in STAGES}


def run(settings: Settings, run_dir: Path, observers: Sequence[Observer] = ()) -> RunResult:
    """Answer one question: run all stages, computing what the store does not hold.

    Parameters
    ----------
    settings : Settings
        The question, not resolved.
    run_dir : Path
        Folder for the ranking, the figures and the resolved settings.
    observers : sequence of Observer
        They are told in this order.

    Raises
    ------
    PipelineError
        If the question cannot be answered. No half-written artifact remains, and finished ones stay in the store.
    """
    try:
        for observer in observers:
            observer.started(settings)
        settings = resolve(settings)
        for observer in observers:
            observer.resolved(settings)
        with store_of(settings, observers) as store:
            execution = Execution(settings, store, observers)
            execution.check()
            reports = tuple(execution.obtain(stage) for stage in STAGES)
            result = RunResult(settings, run_dir, execution.artifacts, reports)
            with storage_errors("the run's results", run_dir):
                publish(result)
        for observer in observers:
            observer.finished(result)
    except BaseException as error:  # Ctrl-C too: the tracker must not be left with a run that never ends
        for observer in observers:
            observer.failed(error)
        raise
    return result


def plan(settings: Settings) -> dict[str, ArtifactKey]:
    """Return the key of every stage's artifact by the stage's name; the settings must be resolved."""
    keys: dict[str, ArtifactKey] = {}
    for stage in STAGES:
        makers = [_MAKER[artifact].name for artifact in stage.upstream.values()]
        reads = stage.select(settings).identity()
        keys[stage.name] = artifact_key(stage.name, stage.version, reads, {name: keys[name] for name in makers})
    return keys


def store_of(settings: Settings, observers: Sequence[Observer] = ()) -> Store:
    """Return the artifact store that the settings name; the observers are told what the store notes."""

    def note(text: str) -> None:
        for observer in observers:
            observer.noted(text)

    return Store(Path(settings.paths.outputs).absolute() / "store", note)


class Execution:
    """The stages of one question over one store.

    Parameters
    ----------
    settings : Settings
        Resolved.
    store : Store
        Where artifacts are found and put.
    observers : sequence of Observer
        Told of every stage that is obtained.

    Attributes
    ----------
    keys : dict of str to ArtifactKey
        By the stage's name.
    artifacts : Artifacts
        Those that were obtained so far.
    """

    def __init__(self, settings: Settings, store: Store, observers: Sequence[Observer] = ()) -> None:
        self.settings, self.keys = settings, plan(settings)
        self._store, self._observers = store, observers
        self._folders: dict[type[Artifact], Path] = {}
        self.artifacts = Artifacts(self._folders)

    def check(self) -> None:
        """Refuse before any work what only the network can tell, unless its activations are in the store."""
        if not self._has(_MAKER[Activations]):
            check_network(self.settings)

    def obtain(self, stage: Stage[Any, Any]) -> StageReport:
        """Return how a stage went, after its artifact was found in the store or computed.

        Artifacts that it builds on are obtained first if they are needed.
        """
        if any(artifact not in self._folders for artifact in stage.upstream.values()) and not self._has(stage):
            for artifact in stage.upstream.values():
                self.obtain(_MAKER[artifact])
        start = time.perf_counter()
        self._folders[stage.artifact], is_cached = self._store.obtain(
            self.keys[stage.name], lambda folder: self._compute(stage, folder)
        )
        seconds = time.perf_counter() - start
        report = StageReport(stage, self.keys[stage.name], is_cached, seconds, self.artifacts)
        for observer in self._observers:
            observer.stage_finished(report)
        return report

    def _has(self, stage: Stage[Any, Any]) -> bool:
        return self._store.find(self.keys[stage.name]) is not None

    def _compute(self, stage: Stage[Any, Any], folder: Path) -> None:
        """Compute a stage's artifact and save it."""
        upstream = {name: self.artifacts[artifact] for name, artifact in stage.upstream.items()}
        callbacks = [callback for observer in self._observers if (callback := observer.stage_started(stage))]
        stage.compute(self.settings, upstream, Workspace(folder), _fan_out(callbacks)).save(folder)


def _fan_out(callbacks: Sequence[Callable[[int, int], None]]) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        for callback in callbacks:
            callback(done, total)

    return progress
