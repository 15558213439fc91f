"""``python -m pipeline.compare``: logged rankings compared, printed, drawn and logged."""

from __future__ import annotations

import argparse
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from pipeline.command_line import command
from pipeline.config import compose_settings
from pipeline.errors import InputError

DESCRIPTION = """Compares logged rankings of the same layer: Spearman, Kendall and rank-biased overlap of every pair,
the overlap of the top channels, a heat map and a slope chart. Runs of different layers are compared by their scores.
Prints, writes a page below OUTPUTS/comparisons, and logs it to MLflow. Settings such as paths.outputs=FOLDER or
tracking.uri=ADDRESS may follow."""


class _Parser(argparse.ArgumentParser):
    """Argparse, its complaints in this package's own form."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"the command must be one that --help shows; got a fault: {message}.")


def arguments(typed: list[str]) -> argparse.Namespace:
    """Return what was asked for; `overrides` holds the settings among it.

    Raises
    ------
    InputError
        If it is not one of: runs, a sweep, the last so many.
    """
    parser = _Parser(prog="python -m pipeline.compare", description=DESCRIPTION)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="an MLflow run's id, or the beginning of one")
    parser.add_argument("--sweep", metavar="ID", help="all runs of a sweep; 'last' for the latest")
    parser.add_argument("--last", type=int, metavar="N", help="the last N runs")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="channels compared at the top (10)")
    overrides = [each for each in typed if "=" in each and not each.startswith("-")]
    asked = parser.parse_args([each for each in typed if each not in overrides])
    asked.overrides = overrides
    n_ways = bool(asked.runs) + (asked.sweep is not None) + (asked.last is not None)
    if n_ways != 1:
        raise InputError(f"the runs must be given in one way (RUN RUN ..., --sweep ID or --last N); got {n_ways}.")
    for name in ("last", "top"):
        value = getattr(asked, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1; got {value}.")
    return asked


@command
def main() -> None:
    """Compare what the command line names."""
    asked = arguments(sys.argv[1:])
    settings = compose_settings(asked.overrides)
    # Late, so that --help and a mistyped argument do not wait for MLflow.
    from pipeline.tracking.comparison import compare
    from pipeline.tracking.connection import open_store, tracking_errors
    from pipeline.tracking.runs import experiment_id, latest_sweep

    outputs = Path(settings.paths.outputs)
    client, uri = open_store(outputs, settings.tracking.uri)
    with tracking_errors(uri):
        experiment = experiment_id(client, settings.tracking.experiment)
        sweep = latest_sweep(client, experiment) if asked.sweep == "last" else asked.sweep
        if asked.sweep == "last" and sweep is None:
            raise InputError("--sweep last must find a sweep; got none. Make one: python -m pipeline --multirun ...")
        name = sweep or datetime.now().strftime("%Y-%m-%d_%H-%M-%S_%f")
        folder = outputs / "comparisons" / name
        found = compare(client, experiment, folder, ids=asked.runs, sweep=sweep, last=asked.last or 0, top=asked.top)
    width = None if sys.stdout.isatty() else 160  # into a file or a pipe: as wide as it takes
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
    runs = Table("run", "best", "median", "above .5", "best channels", box=None, pad_edge=False, padding=(0, 2))
    for run, label in zip(found.runs, found.labels, strict=True):
        living = run.table[~run.table.dead]
        best = " ".join(str(channel) for channel in run.table.head(8).channel)
        share = f"{(run.table.score > 0.5).mean():.0%}"
        runs.add_row(label, f"{run.table.score.max():.3f}", f"{living.score.median():.3f}", share, best)
    console.print(runs)
    if len(found.pairs):
        top = int(found.pairs.top.iloc[0])
        pairs = Table("", "", "Spearman", "Kendall", "RBO", f"top {top}", box=None, pad_edge=False, padding=(0, 2))
        for row in found.pairs.to_dict("records"):
            measures = ("spearman", "kendall", "rank_biased_overlap", "top_overlap")
            pairs.add_row(row["first"], row["second"], *(f"{row[name]:.3f}" for name in measures))
        console.print()
        console.print(pairs)
    if found.is_mixed:
        from pipeline.tracking.comparison import WHY_NOT_RANKS

        console.print(f"\n{WHY_NOT_RANKS}")
    option = "" if not asked.overrides else " " + shlex.join(asked.overrides)
    console.print(f"\nPage    {found.folder / 'comparison.html'}\nMLflow  python -m pipeline.ui{option}")


if __name__ == "__main__":
    main()
