"""What a person sees while a run goes on, and at its end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pipeline.artifacts import Effects, Figures, ImageSet, Ranking
from pipeline.environment import git_state
from pipeline.numerics.compiled import announced_by
from pipeline.observer import Observer, RunResult, StageReport
from pipeline.run_folder import DOWNLOAD_REPORT, FIGURES, REPORT
from pipeline.settings import AceSettings, Settings
from pipeline.stages import ORDER
from pipeline.stages.stage import Stage

N_SHOWN = 10
TABLE_WIDTH = 120
SHOWN = (  # heading, the column it needs, how its cells are written
    ("rank", "rank", "{rank}"),
    ("channel", "channel", "{channel}"),
    ("score", "score", "{score:#.4g}"),
    ("by chance", "null_mean", "{null_mean:.2f} ± {null_deviation:.2f}"),
    ("q", "q_value", "{q_value:.3f}"),
    ("cross-fitted", "cross_fitted", "{cross_fitted:.2f}"),
    ("corrected, 95 %", "low", "{corrected:.2f}, {low:.2f} to {high:.2f}"),
    ("rank, 95 %", "rank_low", "{rank_low:.0f} to {rank_high:.0f}"),
)
N_SWEEP_TOP = 5
SWEPT = (  # heading, the column of the summary, how its cells are written
    ("best", "best_score", "{:.4f}"),
    ("median", "median_score", "{:.4f}"),
    ("reliability", "reliability", "{:.2f}"),
    ("faithfulness", "faithfulness", "{:.2f}"),
    ("with first", "with_first", "{:.2f}"),
    ("score s", "score_seconds", "{:.1f}"),
    ("seconds", "seconds", "{:.1f}"),
)
# What a narrow terminal does without, the first first; `summary.csv` has it all.
SPARED = ("from store", "median", "score s", "best channels", "best")


class _RateColumn(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


class ConsoleObserver(Observer):
    """Print a line per stage, a progress bar while one is computed, the best channels at the end."""

    def __init__(self, console: Console | None = None) -> None:
        # Where nobody's window sets a width (a file, a pipe), wide enough for the table.
        width = None if sys.stdout.isatty() else TABLE_WIDTH
        self._console = console or Console(highlight=False, soft_wrap=True, width=width)
        self._progress: Progress | None = None
        self._announcing = ExitStack()

    def started(self, settings: Settings) -> None:
        """Take over what the compiler has to say."""
        self._announcing.enter_context(announced_by(lambda message: self._print(f"  {message}")))

    def resolved(self, settings: Settings) -> None:
        """Print the question."""
        kept = settings.n_components
        components = f"{kept} component{'s' if kept > 1 else ''}"
        if isinstance(kept, float):
            components = f"components for {kept:.0%} of the variance"
        score, n_anew = settings.score, settings.model.randomized
        how = f"{components}, statistic {score.statistic}" if isinstance(score, AceSettings) else f"score {score.kind}"
        anew = f", {n_anew} module{'s' if n_anew > 1 else ''} drawn anew" if n_anew else ""
        self._print(
            f"Which channels of {settings.layer} ({settings.model.name}{anew}) matter for {settings.target_label}? "
            f"{settings.n_images} images, {how}.",
            style="bold",
        )

    def noted(self, text: str) -> None:
        """Print the note between the stages."""
        self._print(f"  {text}")

    def stage_started(self, stage: Stage[Any, Any]) -> Callable[[int, int], None] | None:
        """Show a bar, with the time left, where somebody looks at a terminal."""
        if not self._console.is_terminal:
            return None
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(stage.counts))
        self._progress = Progress(*columns, _RateColumn(), TimeRemainingColumn(), console=self._console, transient=True)
        self._progress.start()
        task = self._progress.add_task(f"{stage.name:<10}", total=None)
        progress = self._progress
        return lambda done, total: progress.update(task, completed=done, total=total)

    def stage_finished(self, report: StageReport) -> None:
        """Print what the stage made."""
        self._stop_progress()
        time = "from the store" if report.is_cached else f"{report.seconds:.1f} s"
        self._print(f"  {report.stage.name:<10} {report.artifact.description:<46} {time:>14}")

    def finished(self, result: RunResult) -> None:
        """Print the ten best channels, where everything lies, and how to open it."""
        self._announcing.close()
        table = result.ranking.table
        shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
        columns = [(heading, text) for heading, needed, text in SHOWN if needed in table.columns]
        for heading, _ in columns:
            shown.add_column(heading, justify="right")
        for row in table.head(N_SHOWN).to_dict("records"):
            values = {str(name): value for name, value in row.items()}
            shown.add_row(*(text.format(**values) for _, text in columns))
        self._console.print()
        sentences = result.sentences
        for number, sentence in enumerate(sentences):
            self._print(sentence, style="bold red" if number == 0 and result.ranking.trust.is_low else "")
        if sentences:
            self._console.print()
        self._console.print(shown)
        n_dead = int(table.dead.sum())
        rest = f"{len(table)} channels" + (f", {n_dead} of them dead (no variance)" if n_dead else "")
        self._print(f"... of {rest}." if len(table) > N_SHOWN else f"{rest}.")
        if git_state().get("git_dirty") == "true":
            self._print("Note: the code has uncommitted changes, so the commit logged does not tell all of it.")
        figures = result.artifacts[Figures]
        for note in result.notes:
            self._print(f"Note: {note}.")
        self._print("")
        if result.artifacts[ImageSet].report is not None:
            self._print(f"Images   {_shown_path(result.run_dir / DOWNLOAD_REPORT)} (every address)")
        self._print(f"Ranking  {_shown_path(result.run_dir / Ranking.CSV)}")
        if (result.run_dir / Effects.CSV).exists():
            self._print(f"Effects  {_shown_path(result.run_dir / Effects.CSV)}")
        names = ", ".join(path.stem for path in figures.paths)
        if (result.run_dir / REPORT).exists():
            self._print(f"Report   {_shown_path(result.run_dir / REPORT)}")
        self._print(f"Figures  {_shown_path(result.run_dir / FIGURES)} ({names})")
        outputs = result.settings.paths.outputs
        option = (
            ""
            if Path(outputs).absolute() == Path("outputs").absolute()
            else f" {shlex.quote(f'paths.outputs={outputs}')}"
        )
        if result.settings.tracking.enabled:
            self._print(f"MLflow   python -m pipeline.ui{option}")

    def failed(self, error: BaseException) -> None:
        """Take the bar away; whoever called says what happened."""
        self._announcing.close()
        self._stop_progress()

    def _stop_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))


def print_sweep(summary: pd.DataFrame, folder: Path, files: Sequence[str], console: Console | None = None) -> None:
    """Print a sweep's jobs side by side, then what went wrong and where everything lies.

    Columns that say nothing are left out, and the least needed where the terminal is too narrow for all.
    """
    console = console or Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else TABLE_WIDTH)
    columns = _sweep_columns(summary)
    for spared in SPARED:
        if sum(max(map(len, (heading, *cells))) + 2 for heading, cells in columns.items()) - 2 > console.width:
            columns.pop(spared, None)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for heading in columns:
        is_text = heading in ("question", "best channels")
        table.add_column(heading, justify="left" if is_text else "right", overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, cells))
    failed = summary[summary.status != "finished"]
    console.print()
    console.print(table)
    console.print(f"\n{len(summary) - len(failed)} of {len(summary)} jobs finished.")
    for row in failed.to_dict("records"):
        console.print(Text(f"Job {row['job']} ({row['question']}) failed: {row['error'].splitlines()[0]}"))
    console.print(Text(f"Sweep    {_shown_path(folder)} ({', '.join(files)})"))


def _sweep_columns(summary: pd.DataFrame) -> dict[str, list[str]]:
    """Return the cells of a sweep's table by heading; no column that is empty."""
    has_finished = (summary.status == "finished").tolist()
    columns = {
        "job": summary.job.astype(str).tolist(),
        "question": summary.question.tolist(),
        "best channels": [
            " ".join(channels.split()[:N_SWEEP_TOP]) if finished else "failed"
            for channels, finished in zip(summary.top_channels, has_finished, strict=True)
        ],
    }
    for heading, name, text in SWEPT:
        columns[heading] = ["" if pd.isna(value) else text.format(value) for value in summary[name]]
    columns["from store"] = [
        f"{len(stages.split())} of {len(ORDER)}" if finished else ""
        for stages, finished in zip(summary.from_store, has_finished, strict=True)
    ]
    return {heading: cells for heading, cells in columns.items() if any(cells)}


def _shown_path(path: Path) -> Path:
    """Return the path as one would type it: relative where it lies below the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
