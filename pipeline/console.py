"""Output on the console during and after a run, and the summary of a sweep."""

from __future__ import annotations

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

from pipeline.artifacts import Effects, Figures, ImageSet, NetworkRanking, Ranking
from pipeline.environment import git_state
from pipeline.figures.columns import best_channels
from pipeline.network_budget import gib
from pipeline.network_console import N_NAME, channels_table, layer_line, layers_table, not_ranked_lines
from pipeline.numerics.announcement import announced_by
from pipeline.observer import NetworkPlan, NetworkResult, Observer, RunResult, StageReport
from pipeline.overrides import for_shell
from pipeline.progress import told
from pipeline.run_folder import DOWNLOAD_REPORT, FIGURES, LAYERS, NETWORK_PAGE, REPORT
from pipeline.settings import AceSettings, Settings
from pipeline.stages import ORDER
from pipeline.stages.stage import Stage
from pipeline.text_tables import print_whole

N_SHOWN = 10
TABLE_WIDTH = 120
N_SWEEP_TOP = 5
SWEPT = (  # heading, column of the summary, format of the cells
    ("best", "best_score", "{:.4f}"),
    ("median", "median_score", "{:.4f}"),
    ("reliability", "reliability", "{:.2f}"),
    ("faithfulness", "faithfulness", "{:.2f}"),
    ("with first", "with_first", "{:.2f}"),
    ("score s", "score_seconds", "{:.1f}"),
    ("total s", "seconds", "{:.1f}"),
)
# Columns that are left out on a narrow terminal, in this order; `summary.csv` contains all of them.
OPTIONAL = ("from store", "median", "score s", "best channels", "best")


class _RateColumn(ProgressColumn):
    """Number of items per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


class ConsoleObserver(Observer):
    """Print a line for each stage, a progress bar while it is computed, and the best channels at the end."""

    def __init__(self, console: Console | None = None) -> None:
        # A file or a pipe has no width; take one that the table fits into.
        width = None if sys.stdout.isatty() else TABLE_WIDTH
        self._console = console or Console(highlight=False, soft_wrap=True, width=width)
        self._progress: Progress | None = None
        self._announcing = ExitStack()
        self._is_in_layer = False

    def started(self, settings: Settings) -> None:
        """Print the messages about compilation."""
        self._announcing.enter_context(announced_by(lambda message: self._print(f"  {message}")))
        self._announcing.enter_context(told(self._tell))

    def _tell(self, sentence: str) -> None:
        if not self._is_in_layer:
            self._print(f"  {sentence}")

    def resolved(self, settings: Settings) -> None:
        """Print the question."""
        kept = settings.n_components
        if kept == "auto":
            components = "number of components by cross-validation"
        elif isinstance(kept, float):
            components = f"components for {kept:.0%} of the variance"
        else:
            components = f"{kept} component{'s' if kept > 1 else ''}"
        score, model = settings.score, settings.model
        how = (
            f"{components}, statistic {score.own_statistic}"
            if isinstance(score, AceSettings)
            else f"score {score.kind}"
        )
        network = model.label
        if model.randomized:
            network += f", {model.randomized} module{'s' if model.randomized > 1 else ''} randomised"
        what = f"channels of {settings.layer} ({network})"
        if settings.selects_several:
            what = f"layers and channels of {network} ({settings.layer_label})"
        self._print(
            f"Which {what} matter for {settings.target_label}? {settings.n_images} images, {how}.", style="bold"
        )

    def restarted(self, settings: Settings) -> None:
        """Remove the progress bar of the stage that was interrupted."""
        self._stop_progress()
        self._is_in_layer = False

    def noted(self, text: str) -> None:
        """Print the note between the stages."""
        self._print(f"  {text}")

    def stage_started(self, stage: Stage[Any, Any]) -> Callable[[int, int], None] | None:
        """Show a progress bar with the remaining time if the output goes to a terminal."""
        if not self._console.is_terminal:
            return None
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(stage.counts))
        self._progress = Progress(*columns, _RateColumn(), TimeRemainingColumn(), console=self._console, transient=True)
        self._progress.start()
        task = self._progress.add_task(f"{stage.name:<10}", total=None)
        progress = self._progress
        return lambda done, total: progress.update(task, completed=done, total=total)

    def stage_finished(self, report: StageReport) -> None:
        """Print the description of the artifact, and the time."""
        self._stop_progress()
        if self._is_in_layer:
            return
        time = "from the store" if report.is_cached else f"{report.seconds:.1f} s"
        self._print(f"  {report.stage.name:<10} {report.artifact.description:<46} {time:>14}")

    def finished(self, result: RunResult) -> None:
        """Print the best channels, the notes, and where the results are."""
        self._announcing.close()
        self._console.print()
        for number, sentence in enumerate(result.sentences):
            self._print(sentence, style="bold red" if number == 0 and result.ranking.trust.is_low else "")
        if result.sentences:
            self._console.print()
        self._print_ranking(result.ranking.table)
        self._print_state()
        for note in result.notes:
            self._print(f"Note: {note}.")
        self._print("")
        self._print_paths(result)

    def planned(self, plan: NetworkPlan) -> None:
        """Print what the ranking of several layers will take."""
        self._print(f"  {plan.sentence}")

    def pass_finished(self, n_layers: int, n_bytes: int, seconds: float) -> None:
        """Print the size of the maps that a pass has written, and its time."""
        self._stop_progress()
        words = f"maps of {n_layers} layer{'s' * (n_layers != 1)}, {gib(n_bytes)}"
        self._print(f"  {'activate':<10} {words:<46} {seconds:>12.1f} s")

    def attributed(self, n_layers: int, seconds: float) -> None:
        """Print for how many layers the contributions of the channels have been computed together, and the time."""
        self._stop_progress()
        words = f"contributions in {n_layers} layer{'s' * (n_layers != 1)}"
        self._print(f"  {'score':<10} {words:<46} {seconds:>12.1f} s")

    def layer_started(self, settings: Settings) -> None:
        """From now on, stages are those of a layer, and get no lines of their own."""
        self._is_in_layer = True

    def layer_finished(self, result: RunResult) -> None:
        """Print a line for the layer."""
        self._is_in_layer = False
        self._print(layer_line(result))

    def layer_failed(self, layer: str, reason: str) -> None:
        """Print why the layer cannot be ranked."""
        self._is_in_layer = False
        self._stop_progress()
        self._print(f"  {layer:<{N_NAME}} not ranked: {reason}")

    def network_finished(self, result: NetworkResult) -> None:
        """Print the answer, the layers, the best channels, and where the results are."""
        self._announcing.close()
        self._console.print()
        for number, sentence in enumerate(result.ranking.sentences):
            self._print(sentence, style="bold" if number == 0 else "")
        width = self._console.width
        for table in (layers_table(result.ranking, width), channels_table(result.ranking, width)):
            self._console.print()
            print_whole(self._console, table)
        self._print(f"{len(result.ranking.channels):,} channels of {len(result.ranking.layers)} layers in all.")
        self._console.print()
        for line in not_ranked_lines(result.ranking):
            self._print(line)
        self._print_state()
        self._print("")
        self._print(f"Channels {_shown_path(result.run_dir / NetworkRanking.CHANNELS_CSV)}")
        self._print(f"Layers   {_shown_path(result.run_dir / NetworkRanking.LAYERS_CSV)}")
        if (result.run_dir / NETWORK_PAGE).exists():
            self._print(
                f"Report   {_shown_path(result.run_dir / NETWORK_PAGE)} (with a link to the report of each layer)"
            )
        self._print(f"Folders  {_shown_path(result.run_dir / LAYERS)} (one for each layer)")
        self._print_mlflow(result.settings)

    def _print_state(self) -> None:
        if git_state().get("git_dirty") == "true":
            self._print("Note: the code has uncommitted changes, which the logged commit does not contain.")

    def _print_ranking(self, table: pd.DataFrame) -> None:
        """Print the best channels, and the number of all channels."""
        shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
        best = best_channels(table, N_SHOWN)
        for heading in best.headings:
            shown.add_column(heading, justify="right")
        for cells in best.rows:
            shown.add_row(*cells)
        self._console.print(shown)
        self._print(best.total)

    def _print_paths(self, result: RunResult) -> None:
        """Print where the results are, and the command that opens MLflow."""
        run_dir, figures = result.run_dir, result.artifacts[Figures]
        if result.artifacts[ImageSet].report is not None:
            self._print(f"Images   {_shown_path(run_dir / DOWNLOAD_REPORT)} (every address)")
        self._print(f"Ranking  {_shown_path(run_dir / Ranking.CSV)}")
        if (run_dir / Effects.CSV).exists():
            self._print(f"Effects  {_shown_path(run_dir / Effects.CSV)}")
        if (run_dir / REPORT).exists():
            self._print(f"Report   {_shown_path(run_dir / REPORT)}")
        names = ", ".join(path.stem for path in figures.paths)
        self._print(f"Figures  {_shown_path(run_dir / FIGURES)} ({names})")
        self._print_mlflow(result.settings)

    def _print_mlflow(self, settings: Settings) -> None:
        """Print the command that opens MLflow."""
        if settings.tracking.enabled:
            outputs, uri = settings.paths.outputs, settings.tracking.uri
            is_default = Path(outputs).absolute() == Path("outputs").absolute()
            options = [] if is_default else [for_shell("paths.outputs", outputs)]
            options += [] if uri is None else [for_shell("tracking.uri", uri)]
            self._print(" ".join(["MLflow   pcace ui", *options]))

    def failed(self, error: BaseException) -> None:
        """Remove the progress bar. The caller prints the error."""
        self._announcing.close()
        self._stop_progress()

    def _stop_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style))


def print_sweep(summary: pd.DataFrame, folder: Path, files: Sequence[str], console: Console | None = None) -> None:
    """Print a table of the jobs of a sweep, the errors of those that failed, and where the results are.

    Empty columns are left out, and if the terminal is too narrow, those in `OPTIONAL` as well.

    Parameters
    ----------
    summary : DataFrame
        Result of `pipeline.sweep.summary`.
    folder : Path
        Folder of the sweep.
    files : sequence of str
        Names of the files of the summary in this folder.
    console : Console, optional
        Console to print to; standard output by default.
    """
    console = console or Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else TABLE_WIDTH)
    columns = _sweep_columns(summary)
    for optional in OPTIONAL:
        if sum(max(map(len, (heading, *cells))) + 2 for heading, cells in columns.items()) - 2 > console.width:
            columns.pop(optional, None)
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
    """Return the cells of the table of a sweep by heading, without empty columns."""
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
    """Return the path relative to the working folder if it is inside it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
