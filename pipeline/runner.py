"""Run the stages in order: take each artifact from the store or compute it, and inform the observers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pipeline import engine
from pipeline.artifacts import Activations, ChannelScores, ImageSet
from pipeline.errors import MemoryExceededError
from pipeline.networks.decoded import decoded_once
from pipeline.networks.memory import batch_note, smaller_batch
from pipeline.observer import Artifacts, Observer, RunResult, StageReport
from pipeline.resolve import check_network, check_ranker, resolve
from pipeline.run_folder import publish
from pipeline.settings import Settings
from pipeline.stages import load_stage, load_stages
from pipeline.stages.stage import Stage
from pipeline.store import ArtifactKey, Store, artifact_key, storage_errors

ResultT = TypeVar("ResultT")
STAGES: tuple[Stage[Any, Any], ...] = load_stages()
LAYER_STAGES: tuple[Stage[Any, Any], ...] = (*STAGES, load_stage("associate"))  # of each of several layers
_STAGE_OF = {stage.artifact: stage for stage in LAYER_STAGES}


def run(settings: Settings, run_dir: Path, observers: Sequence[Observer] = ()) -> RunResult:
    """Run all stages, computing the artifacts that are not in the store, and fill the folder of the run.

    Parameters
    ----------
    settings : Settings
        The settings, not yet resolved.
    run_dir : Path
        Folder for the ranking, the figures and the resolved settings. It is created if it is missing.
    observers : sequence of Observer
        Informed about the course of the run, in this order.

    Returns
    -------
    RunResult
        The artifacts and the folder of the run.

    Raises
    ------
    PipelineError
        If the settings, the images, the network or the disk do not allow the run. Artifacts of finished stages stay in
        the store; no incomplete artifact is left.
    """
    try:
        for observer in observers:
            observer.started(settings)
        settings = resolve(settings)
        for observer in observers:
            observer.resolved(settings)
        with decoded_once():
            result = in_fitting_batches(settings, observers, lambda given: _run(given, run_dir, observers))
    except BaseException as error:  # also KeyboardInterrupt, so that the tracker ends the logged run
        for observer in observers:
            observer.failed(error)
        raise
    return result


def _run(settings: Settings, run_dir: Path, observers: Sequence[Observer]) -> RunResult:
    with store_of(settings, observers) as store:
        execution = Execution(settings, store, observers)
        execution.check()
        reports = tuple(execution.obtain(stage) for stage in STAGES)
        result = RunResult(settings, run_dir, execution.artifacts, reports)
        with storage_errors("the run's results", run_dir):
            publish(result)
        for observer in observers:  # inside the store's context, which protects the artifacts that they read
            observer.finished(result)
    return result


def in_fitting_batches(
    settings: Settings, observers: Sequence[Observer], compute: Callable[[Settings], ResultT]
) -> ResultT:
    """Return the result of a function of the settings, with a batch size that fits into the memory.

    If a batch does not fit, the batch size in the settings is halved, and the function is called again. The keys
    contain the batch size, so every artifact is stored under the size with which it was computed; see
    docs/decisions/0113.

    Raises
    ------
    MemoryExceededError
        If one image does not fit.
    """
    while True:
        try:
            return compute(settings)
        except MemoryExceededError as error:
            size = smaller_batch(settings.model.batch_size, settings.n_images)
            if size is None:
                raise
            settings = replace(settings, model=replace(settings.model, batch_size=size))
            for observer in observers:
                observer.restarted(settings)
                observer.noted(batch_note(error, size))


def plan(
    settings: Settings,
    stages: Sequence[Stage[Any, Any]] = STAGES,
    known: Mapping[str, ArtifactKey] = MappingProxyType({}),
) -> dict[str, ArtifactKey]:
    """Return the key of the artifact of every stage, by the stage's name. Nothing is computed.

    Parameters
    ----------
    settings : Settings
        The resolved settings.
    stages : sequence of Stage
        The stages, each after those that it builds on.
    known : mapping of str to ArtifactKey
        Keys that are known already.
    """
    keys: dict[str, ArtifactKey] = dict(known)
    for stage in stages:
        if stage.name in keys:
            continue
        upstream = [_STAGE_OF[artifact].name for artifact in stage.upstream.values()]
        reads = stage.select(settings).identity()
        keys[stage.name] = artifact_key(stage.name, stage.version, reads, {name: keys[name] for name in upstream})
    return keys


def store_of(settings: Settings, observers: Sequence[Observer] = ()) -> Store:
    """Return the artifact store below `paths.outputs`; its messages go to the observers."""

    def note(text: str) -> None:
        for observer in observers:
            observer.noted(text)

    return Store(Path(settings.paths.outputs).absolute() / "store", note)


class Execution:
    """The execution of stages with one store.

    Parameters
    ----------
    settings : Settings
        The resolved settings.
    store : Store
        The store that contains the artifacts. Its context must be open as long as the artifacts are used.
    observers : sequence of Observer
        Informed about every stage.
    keys : mapping of str to ArtifactKey, optional
        The keys, if they are known; computed by default.

    Attributes
    ----------
    keys : dict of str to ArtifactKey
        Key of the artifact of every stage, by the stage's name.
    artifacts : Artifacts
        The artifacts that have been obtained.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        observers: Sequence[Observer] = (),
        keys: Mapping[str, ArtifactKey] | None = None,
    ) -> None:
        self.settings, self.keys = settings, plan(settings) if keys is None else dict(keys)
        self.artifacts = Artifacts()
        self._store, self._observers = store, observers

    def check(self) -> None:
        """Check the settings that depend on the network before anything is computed, see `check_network`.

        The network has passed this check, and need not be built for it, if its activations are in the store. Another
        ranker may not be applicable to it.
        """
        if not self.is_stored(_STAGE_OF[Activations]):
            check_network(self.settings)
        elif not self.is_stored(_STAGE_OF[ChannelScores]):
            check_ranker(self.settings)
        is_local = self.settings.engine.kind == "local"
        if not is_local and not all(self._store.has(self.keys[name]) for name in engine.DIVIDED):
            engine.prepare(self.settings, self._note)

    def obtain(self, stage: Stage[Any, Any]) -> StageReport:
        """Make the artifact of a stage available, from the store or by computing it.

        If it must be computed, the artifacts that it builds on are obtained first.

        Parameters
        ----------
        stage : Stage
            One of `STAGES`.

        Returns
        -------
        StageReport
            How the stage went; ``artifacts`` contains the artifact.

        Raises
        ------
        PipelineError
            If the artifact cannot be computed or stored.
        """
        upstream = stage.upstream.values()
        if any(artifact not in self.artifacts for artifact in upstream) and not self.is_stored(stage):
            for artifact in upstream:
                if artifact not in self.artifacts:  # obtaining another one may have made it available
                    self.obtain(_STAGE_OF[artifact])
        start = time.perf_counter()
        key = self.keys[stage.name]
        folder, is_cached = self._store.obtain(key, lambda folder: self._compute(stage, folder))
        return self._report(stage, folder, is_cached, time.perf_counter() - start)

    def adopt(self, report: StageReport) -> StageReport:
        """Take over what another execution of the same layer has obtained, and inform the observers."""
        folder = self._store.find(report.key)  # from now on, this store protects it from removal as well
        if folder is None:
            return self.obtain(report.stage)
        return self._report(report.stage, folder, report.is_cached, report.seconds)

    def started(self, stage: Stage[Any, Any]) -> Callable[[int, int], None]:
        """Inform the observers that a stage is computed, and return what they want to be told of its progress."""
        return fan_out([callback for observer in self._observers if (callback := observer.stage_started(stage))])

    def _report(self, stage: Stage[Any, Any], folder: Path, is_cached: bool, seconds: float) -> StageReport:
        self.artifacts.add(stage.artifact, folder)
        report = StageReport(stage, self.keys[stage.name], is_cached, seconds, self.artifacts)
        note = self.artifacts[ImageSet].note if stage.artifact is ImageSet else ""
        for observer in self._observers:
            observer.stage_finished(report)
            if note:
                observer.noted(note)
        return report

    def is_stored(self, stage: Stage[Any, Any]) -> bool:
        """Return whether the artifact is in the store, undamaged; from then on, the store protects it from removal."""
        return self._store.find(self.keys[stage.name]) is not None

    def _compute(self, stage: Stage[Any, Any], folder: Path) -> None:
        """Compute the artifact of a stage and save it into `folder`."""
        upstream = {name: self.artifacts[artifact] for name, artifact in stage.upstream.items()}
        folders = {name: self.artifacts.folders[artifact] for name, artifact in stage.upstream.items()}
        progress = self.started(stage)
        engine.compute(stage, self.settings, upstream, folders, folder, progress, self._note).save(folder)

    def _note(self, text: str) -> None:
        for observer in self._observers:
            observer.noted(text)


def fan_out(callbacks: Sequence[Callable[[int, int], None]]) -> Callable[[int, int], None]:
    """Return one progress callback that calls all of them."""

    def progress(done: int, total: int) -> None:
        for callback in callbacks:
            callback(done, total)

    return progress
