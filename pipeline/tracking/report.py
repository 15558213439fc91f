"""The observer that leaves a report in the run's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Figures
from pipeline.figures.report import ReportContent, render_report
from pipeline.settings import Settings
from pipeline.store import storage_errors
from pipeline.tracking.environment import environment, git_state

if TYPE_CHECKING:
    from pipeline.runner import RunResult, Stage, StageReport

REPORT = "report.html"


class ReportWriter:
    """Write ``report.html`` when a run has finished.

    Told before the tracker, which logs the file.

    Parameters
    ----------
    command : str
        What the user typed: the report says how to make the run again.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._notes: list[str] = []

    def started(self, settings: Settings) -> None:
        """Need not know."""

    def resolved(self, settings: Settings) -> None:
        """Need not know."""

    def noted(self, text: str) -> None:
        """Keep the note for the report."""
        self._notes.append(text)

    def stage_started(self, stage: Stage) -> Callable[[int, int], None] | None:
        """Need no progress."""
        del stage
        return None

    def stage_finished(self, report: StageReport, artifact: Any) -> None:
        """Need not know."""

    def finished(self, result: RunResult) -> None:
        """Write the report, whole or not at all."""
        figures: Figures = result.artifacts["visualize"]
        with storage_errors("the run's report", result.run_dir):
            page = render_report(
                ReportContent(
                    table=result.ranking.table,
                    gallery=json.loads((figures.folder / Figures.GALLERY).read_text(encoding="utf-8")),
                    figures=figures.paths,
                    notes=[*self._notes, *result.sentences, *result.notes],
                    settings=flat(asdict(result.settings)),
                    environment={**git_state(), **environment()},
                    stages=[
                        (each.stage.name, each.seconds, each.is_cached, each.key.digest[:20]) for each in result.reports
                    ],
                    command=self._command,
                )
            )
            target = result.run_dir / REPORT
            target.with_name(f"{REPORT}.part").write_text(page, encoding="utf-8")
            os.replace(target.with_name(f"{REPORT}.part"), target)

    def failed(self, error: BaseException) -> None:
        """Leave no report."""


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {prefix + name: value}
    return found
