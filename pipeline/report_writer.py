"""Observer that writes the report into the folder of the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from pipeline.artifacts import Figures
from pipeline.environment import environment, git_state
from pipeline.figures.report_page import ReportContent, render_report
from pipeline.files import write_whole
from pipeline.observer import Observer, RunResult
from pipeline.run_folder import NETWORK_PAGE, REPORT
from pipeline.settings import Settings
from pipeline.store import storage_errors


class ReportWriter(Observer):
    """Observer that writes ``report.html`` when a run has finished.

    It must come before the tracker among the observers, because the tracker logs the file.

    Parameters
    ----------
    command : str
        Command that repeats the run, shown in the report.
    command_of_layer : callable, optional
        From one of several layers to the command that ranks it alone; needed only if several are ranked.
    """

    def __init__(self, command: str, command_of_layer: Callable[[str], str] | None = None) -> None:
        self._command, self._command_of_layer = command, command_of_layer
        self._notes: list[str] = []

    def noted(self, text: str) -> None:
        """Keep the note for the report."""
        self._notes.append(text)

    def finished(self, result: RunResult) -> None:
        """Write the report as a whole or not at all."""
        self._write(result, self._command, network="")

    def layer_started(self, settings: Settings) -> None:
        """Forget the notes of other layers."""
        self._notes = []

    def layer_finished(self, result: RunResult) -> None:
        """Write the report of one of several layers, with a link to the page of the network."""
        settings = result.settings
        command = self._command_of_layer(settings.layer) if self._command_of_layer else self._command
        command = " ".join([command, *settings.budgets])  # of this layer; later overrides replace earlier ones
        self._write(result, command, network=f"../../{NETWORK_PAGE}")

    def _write(self, result: RunResult, command: str, network: str) -> None:
        figures = result.artifacts[Figures]
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
                    command=command,
                    trust=result.ranking.trust,
                    network=network,
                )
            )
            write_whole(result.run_dir / REPORT, page)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one dictionary with dotted names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {prefix + name: value}
    return found
