"""``result.json``: what became of a job of a sweep, written into the folder of the job.

The jobs of a sweep may run in other processes or on other machines. The process that summarises the sweep reads these
files, because it has no other connection to the jobs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts import Effects, Ranking
from pipeline.files import write_whole
from pipeline.observer import NetworkResult, Observer, RunResult, StageReport
from pipeline.settings import Settings

RESULT = "result.json"


@dataclass
class Record:
    """What became of a job.

    Attributes
    ----------
    status : {"finished", "failed"}
        Whether the job finished without an error.
    error : str
        The error of a job that failed, otherwise empty.
    overrides : list of str
        Overrides of the job, as the user entered them.
    seconds : dict of str to float
        Wall-clock time of every finished stage in seconds, by the stage's name.
    from_store : dict of str to bool
        Whether the artifact of the stage was in the store, by the stage's name.
    keys : dict of str to str
        Digest of the key of the stage's artifact, by the stage's name. If several layers are ranked, the name of the
        layer follows it, and the times are those of all layers.
    notes : list of str
        Messages that were printed during the run.
    reliability : float or None
        Split-half reliability of the ranking, see `pipeline.artifacts.Trust`; None if it was not computed.
    faithfulness : float or None
        Faithfulness of the ranking, see `pipeline.artifacts.Faithfulness.spearman`; None if it was not measured.
    batch_sizes : list of int
        If batches of the size in the settings did not fit into the memory, this size and the one that fitted; otherwise
        empty.
    """

    status: str = "failed"
    error: str = ""
    overrides: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    from_store: dict[str, bool] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reliability: float | None = None
    faithfulness: float | None = None
    batch_sizes: list[int] = field(default_factory=list)

    @classmethod
    def load(cls, run_dir: Path) -> Record | None:
        """Return the record in the folder of a job, or None if there is none, because the job was killed."""
        try:
            values: Mapping[str, Any] = json.loads((run_dir / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cls(**values)

    def save(self, run_dir: Path) -> None:
        """Write the record into the folder of the job, whole or not at all."""
        write_whole(run_dir / RESULT, json.dumps(asdict(self), indent=1) + "\n")


class RecordingObserver(Observer):
    """Observer that fills a `Record` during the run.

    Parameters
    ----------
    record : Record
        The record, which is changed in place.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._layer: str | None = None
        self._batch_size = 0

    def resolved(self, settings: Settings) -> None:
        """Take the batch size of the settings, with which the run begins."""
        self._batch_size = settings.model.batch_size

    def restarted(self, settings: Settings) -> None:
        """From now on, stages are not those of the layer that was interrupted."""
        self._layer = None

    def noted(self, text: str) -> None:
        """Record the message."""
        self._record.notes.append(text)

    def stage_finished(self, report: StageReport) -> None:
        """Record the stage's time and key, whether the store had its artifact, and the quality of the ranking."""
        name = report.stage.name
        if self._layer is not None:  # the times of all layers are added up
            self._add(name, report.seconds, is_cached=report.is_cached)
            self._record.keys[f"{name} {self._layer}"] = report.key.digest
            return
        self._record.seconds[name] = round(report.seconds, 3)
        self._record.from_store[name] = report.is_cached
        self._record.keys[name] = report.key.digest
        if report.stage.artifact is Ranking:
            self._record.reliability = report.artifacts[Ranking].trust.reliability
        elif report.stage.artifact is Effects:
            self._record.faithfulness = report.artifacts[Effects].faithfulness.spearman

    def pass_finished(self, n_layers: int, n_bytes: int, seconds: float) -> None:
        """Record the time of a pass over the images."""
        self._add("activate", seconds, is_cached=False)

    def layer_started(self, settings: Settings) -> None:
        """From now on, stages are those of a layer."""
        self._layer = settings.layer

    def network_finished(self, result: NetworkResult) -> None:
        """Record that the job has finished."""
        self._finish(result.settings)

    def _add(self, stage: str, seconds: float, *, is_cached: bool) -> None:
        self._record.seconds[stage] = round(self._record.seconds.get(stage, 0.0) + seconds, 3)
        self._record.from_store[stage] = self._record.from_store.get(stage, True) and is_cached

    def finished(self, result: RunResult) -> None:
        """Record that the job has finished."""
        self._finish(result.settings)

    def _finish(self, settings: Settings) -> None:
        self._record.status = "finished"
        if settings.model.batch_size != self._batch_size:
            self._record.batch_sizes = [self._batch_size, settings.model.batch_size]

    def failed(self, error: BaseException) -> None:
        """Record the error, which may also follow `finished`, if another observer cannot handle the result."""
        self._record.status = "failed"
        self._record.error = str(error) or type(error).__name__


def varied(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return, for each job of a sweep, the overrides that not all jobs have, such as ``layer=conv1``.

    Parameters
    ----------
    overrides : sequence of sequences of str
        The overrides of every job.
    """
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [" ".join(override for override in job if override not in common) for job in overrides]
