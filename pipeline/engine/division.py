"""Divide the computation of an artifact into parts, and obtain the parts that are not finished yet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.digests import digest_bytes
from pipeline.engine.installation import Installation, versions
from pipeline.engine.task import Executor, Shard, Task, Work, not_shared
from pipeline.progress import Progress
from pipeline.settings import RayEngine, Settings
from pipeline.store.parts import finished_parts, is_visible, parts_folder

Span = tuple[int, int]
MULTIPLE = (
    16  # channels are computed in groups of 4 or 16, see `pipeline.numerics.spline_layer` and `spline_smoothness`
)
CODE = "code.txt"


class Division:
    """The parts of one artifact.

    Parameters
    ----------
    stage : str
        Name of the stage.
    settings : Settings
        The resolved settings.
    engine : RayEngine
        The sizes of the parts.
    upstream : mapping of str to Path
        The folders of the artifacts that the stage builds on, by their names.
    temporary : Path
        Folder that the artifact is written into; the parts are in a folder beside it.
    executor : Executor
        What performs the tasks.
    progress : callable
        Called with the number of units that are done and the number of all units.
    """

    def __init__(
        self,
        stage: str,
        settings: Settings,
        engine: RayEngine,
        upstream: Mapping[str, Path],
        temporary: Path,
        executor: Executor,
        progress: Progress,
    ) -> None:
        self.settings, self.engine = settings, engine
        self._stage, self._upstream, self._executor, self._progress = stage, upstream, executor, progress
        self.folder = parts_folder(temporary)
        code = versions()["code of pcace"]
        if self.folder.is_dir() and not _has_text(self.folder / CODE, code):
            shutil.rmtree(self.folder, ignore_errors=True)  # of another version, which may divide differently
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / CODE).write_text(code, encoding="utf-8")

    def each(
        self,
        step: str,
        work: Work,
        spans: Sequence[Span],
        *,
        counts: str,
        runs_network: bool = False,
        report: Callable[[int, int], None] | None = None,
        **given: Any,
    ) -> list[Path]:
        """Return the folders of all parts, and compute those that are missing.

        Parameters
        ----------
        step : str
            Name of the step of the stage, for the names of the folders.
        work : callable
            Computes a part.
        spans : sequence of (int, int)
            Where each part starts and stops.
        counts : str
            What is counted by the spans, for messages: images, channels or passes.
        runs_network : bool
            Whether the network runs.
        report : callable, optional
            Called with the units that are done, and their number, in the place of `progress`.
        **given
            Further arguments of `work`, small.
        """
        name = f"{step}-{digest_bytes(repr(sorted(given.items())).encode())[:8]}" if given else step
        folders = {span: self.folder / f"{name}-{span[0]}-{span[1]}" for span in spans}
        finished = finished_parts(self.folder)
        missing = [span for span in spans if folders[span].name not in finished]
        n_all = sum(stop - start for start, stop in spans)
        n_done = n_all - sum(stop - start for start, stop in missing)
        report = report or self._progress

        def on_finished(task: Task) -> None:
            nonlocal n_done
            if not is_visible(task.folder):
                raise not_shared(task.folder, "of this command")
            n_done += task.shard.stop - task.shard.start
            report(n_done, n_all)

        report(n_done, n_all)
        if missing:
            installation = Installation.of(self._stage, self.settings, runs_network=runs_network)
            tasks = [
                Task(
                    work,
                    Shard(self.settings, self._upstream, *span, self.engine.num_cpus, given),
                    folders[span],
                    f"{counts} {span[0] + 1} to {span[1]} of the stage {self._stage}",
                    runs_network,
                    installation,
                )
                for span in missing
            ]
            self._executor.run(tasks, on_finished)
        return [folders[span] for span in spans]

    def images(self, batches: Sequence[slice]) -> list[Span]:
        """Return the spans of images: as many whole batches as a task takes, at least one."""
        spans: list[Span] = []
        for batch in batches:
            if spans and batch.stop - spans[-1][0] <= self.engine.images_per_task:
                spans[-1] = (spans[-1][0], batch.stop)
            else:
                spans.append((batch.start, batch.stop))
        return spans

    def channels(self, n_channels: int, at_most: int | None = None) -> list[Span]:
        """Return the spans of channels, each a multiple of `MULTIPLE` except for the last."""
        wanted = min(self.engine.channels_per_task, at_most or self.engine.channels_per_task)
        step = -(-wanted // MULTIPLE) * MULTIPLE
        return [(start, min(start + step, n_channels)) for start in range(0, n_channels, step)]


def _has_text(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except OSError:
        return False
