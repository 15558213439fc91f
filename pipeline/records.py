"""``result.json``: what became of a run, in its own folder, for whoever was not there to see it.

A sweep's jobs may run in other processes or on other machines; these files are all that their parent has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts import Effects, Ranking
from pipeline.files import write_whole
from pipeline.observer import Observer, RunResult, StageReport

RESULT = "result.json"


@dataclass
class Record:
    """How a run went.

    Attributes
    ----------
    status : str
        ``finished`` or ``failed``.
    error : str
        Why it failed; empty otherwise.
    overrides : list of str
        What was typed for it.
    seconds : dict
        Wall-clock seconds by stage.
    from_store : dict
        By stage, whether the store had its artifact.
    keys : dict
        By stage, the digest of its artifact's key.
    notes : list of str
        What else was said on the way.
    reliability : float or None
        The ranking's, see `pipeline.artifacts.Trust`; None where it was not asked.
    faithfulness : float or None
        The ranking's, see `pipeline.artifacts.Faithfulness.spearman`; None if it was not measured.
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

    @classmethod
    def load(cls, run_dir: Path) -> Record | None:
        """Return what a run left in its folder, None where it was killed before it could."""
        try:
            values: Mapping[str, Any] = json.loads((run_dir / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cls(**values)

    def save(self, run_dir: Path) -> None:
        """Write the file, whole or not at all."""
        write_whole(run_dir / RESULT, json.dumps(asdict(self), indent=1) + "\n")


class RecordingObserver(Observer):
    """Gather a `Record` while the run goes on."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def noted(self, text: str) -> None:
        """Keep the note."""
        self._record.notes.append(text)

    def stage_finished(self, report: StageReport) -> None:
        """Keep the stage's time, its key, whether the store had it, and how good the ranking is."""
        name = report.stage.name
        self._record.seconds[name] = round(report.seconds, 3)
        self._record.from_store[name] = report.is_cached
        self._record.keys[name] = report.key.digest
        match report.artifact:
            case Ranking(trust=trust):
                self._record.reliability = trust.reliability
            case Effects(faithfulness=found):
                self._record.faithfulness = found.spearman

    def finished(self, result: RunResult) -> None:
        """Say that all went well."""
        del result
        self._record.status = "finished"

    def failed(self, error: BaseException) -> None:
        """Keep why it failed."""
        self._record.error = str(error) or type(error).__name__


def varied(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Return, for each job of a sweep, what was typed for it and not for all of them: ``layer=conv1``."""
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [" ".join(override for override in job if override not in common) for job in overrides]
