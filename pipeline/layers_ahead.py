"""Stages of the next layers that are computed in other threads while the stages of a layer are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from threading import Event
from typing import Any

from threadpoolctl import threadpool_limits

from pipeline.observer import Observer, StageReport
from pipeline.runner import Execution
from pipeline.settings import AceSettings, Settings
from pipeline.stages.stage import Stage
from pipeline.store import Store

# Stages that do not use the network, and the number of the thread that computes them.
THREADS = {"reduce": 0, "score": 1, "associate": 0}
N_AHEAD = 2  # layers, each of which takes a few file descriptors


class Stopped(BaseException):
    """The run has ended before this stage."""


class _Progress(Observer):
    """Notes which stages are computed, and passes their progress on to whoever waits for them."""

    def __init__(self, stopped: Event) -> None:
        self.begun: dict[str, Event] = {}
        self.computed: set[str] = set()
        self.shown: Callable[[int, int], None] = lambda done, total: None
        self._stopped = stopped

    def stage_started(self, stage: Stage[Any, Any]) -> Callable[[int, int], None]:
        """Return a function that passes the progress on, or ends the stage if the run has ended."""
        self.computed.add(stage.name)
        if stage.name in self.begun:
            self.begun[stage.name].set()

        def progress(done: int, total: int) -> None:
            if self._stopped.is_set():
                raise Stopped
            self.shown(done, total)

        return progress


@dataclass(frozen=True)
class _Layer:
    store: Store
    progress: _Progress
    reports: dict[str, Future[StageReport]]


class LayersAhead:
    """Computes some stages of the next layers; see `layers_ahead`.

    Parameters
    ----------
    layers : sequence of str
        The layers, in order.
    stages : sequence of Stage
        The stages, each after those that it builds on.
    executed : callable
        From a layer and an observer to a store and an execution with it.
    """

    def __init__(
        self,
        layers: Sequence[str],
        stages: Sequence[Stage[Any, Any]],
        executed: Callable[[str, Observer], tuple[Store, Execution]],
    ) -> None:
        self._waiting, self._stages, self._executed = list(layers), stages, executed
        self._layers: dict[str, _Layer] = {}
        self._stopped, self._threads = Event(), [ThreadPoolExecutor(1) for _ in range(2)]

    @contextmanager
    def stages_of(self, layer: str) -> Iterator[None]:
        """Make the reports of a layer available inside the context, while the following layers are computed."""
        if layer in self._waiting or layer in self._layers:
            while self._waiting and len(self._layers) <= N_AHEAD:
                self._start(self._waiting.pop(0))
        try:
            yield
        finally:
            if layer in self._layers:
                self._layers.pop(layer).store.__exit__()

    def _start(self, layer: str) -> None:
        progress = _Progress(self._stopped)
        store, execution = self._executed(layer, progress)
        reports: dict[str, Future[StageReport]] = {}
        for stage in self._stages:
            begun = progress.begun[stage.name] = Event()
            upstream = stage.upstream.values()
            before = [reports[each.name] for each in self._stages if each.artifact in upstream]
            thread = self._threads[THREADS[stage.name]]
            reports[stage.name] = thread.submit(copy_context().run, _obtained, execution, stage, before)
            reports[stage.name].add_done_callback(lambda _, begun=begun: begun.set())  # type: ignore[misc]
        self._layers[layer] = _Layer(store, progress, reports)

    def obtain(self, stage: Stage[Any, Any], execution: Execution) -> StageReport:
        """Return the report of a stage: wait for its end if it is computed here, and otherwise obtain it.

        Parameters
        ----------
        stage : Stage
            The stage.
        execution : Execution
            The execution of the layer inside of `stages_of`, whose observers are informed.

        Raises
        ------
        PipelineError
            If the stage has failed.
        """
        layer = self._layers.get(execution.settings.layer)
        if layer is None or stage.name not in layer.reports:
            return execution.obtain(stage)
        layer.progress.begun[stage.name].wait()
        if stage.name in layer.progress.computed:
            layer.progress.shown = execution.started(stage)
        return execution.adopt(layer.reports[stage.name].result())

    def close(self) -> None:
        """End the stages that are being computed, and wait for them."""
        self._stopped.set()
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)
        for layer in self._layers.values():
            layer.store.__exit__()


def _obtained(execution: Execution, stage: Stage[Any, Any], before: Sequence[Future[StageReport]]) -> StageReport:
    """Obtain a stage as soon as other stages of the layer, which may be computed in another thread, have ended."""
    for report in before:
        report.result()
    return execution.obtain(stage)


@contextmanager
def layers_ahead(
    settings: Settings,
    layers: Sequence[str],
    stages: Sequence[Stage[Any, Any]],
    executed: Callable[[str, Observer], tuple[Store, Execution]],
) -> Iterator[LayersAhead]:
    """Compute some stages of the next layers in other threads, if the ranker does not depend on it.

    No stage keeps all cores busy all the time. BLAS uses one thread inside the context, so that the last
    digits of what it computes do not depend on what is computed at the same time. Other rankers may depend on the
    number of its threads or use the network; with these, nothing is computed ahead.

    Parameters
    ----------
    settings : Settings
        The settings of the run.
    layers, stages, executed
        As in `LayersAhead`; of the stages, those in `THREADS` are computed.
    """
    is_independent = isinstance(settings.score, AceSettings) and settings.score.solver == "compiled"
    if not is_independent or len(layers) < 2:
        yield LayersAhead((), (), executed)
        return
    with threadpool_limits(1, user_api="blas"):
        if settings.engine.kind != "local":  # other processes keep the cores busy
            yield LayersAhead((), (), executed)
            return
        ahead = LayersAhead(layers, [stage for stage in stages if stage.name in THREADS], executed)
        try:
            yield ahead
        finally:
            ahead.close()
