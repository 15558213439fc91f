"""The command ``pcace compare``: compare the rankings of logged runs."""

from __future__ import annotations

import argparse
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.table import Table

from pipeline.command_line import command
from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.imports import import_for_command
from pipeline.text_tables import print_whole

if TYPE_CHECKING:
    from pipeline.network_comparison import NetworkComparison
    from pipeline.tracking.comparison import Comparison

DESCRIPTION = """Compare the rankings of logged runs. For each pair of runs of the same layer, the Spearman and Kendall
correlations, the rank-biased overlap and the overlap of the best channels are computed. Runs of different layers are
compared by the distributions of their scores. Runs of whole networks (layer=all) are compared layer by layer, or by
depth if their layers differ. The result is printed, written as a page with figures to OUTPUTS/comparisons, and logged
to MLflow. Settings such as paths.outputs=FOLDER or tracking.uri=URI can be added."""

WIDTH = 160  # columns, if the output is a file or a pipe
N_BEST = 8  # number of best channels that are printed for each run


class _Parser(argparse.ArgumentParser):
    """Argument parser whose errors have the form of all errors of this package."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"the arguments must be those that --help shows; got a wrong one ({message}).")


def arguments(typed: list[str]) -> argparse.Namespace:
    """Return the parsed arguments, with the settings among them as `overrides`.

    Raises
    ------
    InputError
        If an argument is not valid, or if the runs are not given in exactly one way.
    """
    parser = _Parser(prog="pcace compare", description=DESCRIPTION)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="the id of an MLflow run, or its beginning")
    parser.add_argument("--sweep", metavar="ID", help="all runs of a sweep; 'last' for the latest")
    parser.add_argument("--last", type=int, metavar="N", help="the last N runs")
    parser.add_argument("--networks", action="store_true", help="with --last: the last N runs of whole networks")
    parser.add_argument(
        "--top",
        type=int,
        default=10,
        metavar="K",
        help="the number of best channels compared (10)",
    )
    overrides = [each for each in typed if "=" in each and not each.startswith("-")]
    asked = parser.parse_args([each for each in typed if each not in overrides])
    asked.overrides = overrides
    n_ways = bool(asked.runs) + (asked.sweep is not None) + (asked.last is not None)
    if n_ways != 1:
        raise InputError(f"runs must be given in one way (RUN RUN ..., --sweep ID or --last N); got {n_ways} ways.")
    if asked.networks and asked.last is None:
        raise InputError("--networks must be used with --last N; got it without. Write --networks --last 2.")
    for name in ("last", "top"):
        value = getattr(asked, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1; got {value}.")
    return asked


@command
def main() -> None:
    """Compare the runs that the command line names."""
    asked = arguments(sys.argv[1:])
    settings = compose_settings(asked.overrides)
    # Imported here because MLflow takes seconds, which --help and a wrong argument should not wait for.
    import_for_command("pipeline.tracking.comparison")
    from pipeline.tracking.comparison import PAGE, compare
    from pipeline.tracking.connection import open_store, tracking_errors
    from pipeline.tracking.network_comparison import compare_logged_networks
    from pipeline.tracking.runs import chosen_runs, experiment_id, is_network, latest_sweep

    outputs = Path(settings.paths.outputs)
    client, uri = open_store(outputs, settings.tracking.uri)
    with tracking_errors(uri):
        experiment = experiment_id(client, settings.tracking.experiment, uri)
        sweep = latest_sweep(client, experiment) if asked.sweep == "last" else asked.sweep
        if asked.sweep == "last" and sweep is None:
            raise InputError("--sweep last must find a sweep; got none. Run one: pcace run --multirun ...")
        name = sweep or datetime.now().strftime("%Y-%m-%d_%H-%M-%S_%f")
        folder = outputs / "comparisons" / name
        chosen = chosen_runs(
            client, experiment, ids=asked.runs, sweep=sweep, last=asked.last or 0, networks=asked.networks
        )
        if is_network(chosen[0]):
            _print_networks(compare_logged_networks(client, experiment, folder, chosen, sweep))
        else:
            _print(compare(client, experiment, folder, chosen, sweep=sweep, top=asked.top))
    option = "" if not asked.overrides else " " + shlex.join(asked.overrides)
    print(f"\nPage    {folder / PAGE}\nMLflow  pcace ui{option}")


def _print_networks(found: NetworkComparison) -> None:
    """Print what differs between networks, and a table of their layers."""
    from pipeline.tracking.network_comparison import cells

    width = None if sys.stdout.isatty() else WIDTH
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
    for number, label in enumerate(found.labels, start=1):
        console.print(f"{number}: {label}")
    console.print()
    for sentence in found.sentences:
        console.print(sentence)
    console.print()
    columns, rows = cells(found)
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for place, column in enumerate(columns):
        table.add_column(column["label"], justify="right" if place else "left")
    for row in rows:
        table.add_row(*(cell["text"] for cell in row))
    print_whole(console, table)


def _print(found: Comparison) -> None:
    """Print a table of the runs, and one of the agreement of each pair."""
    from pipeline.numerics.agreement import MEASURES
    from pipeline.tracking.comparison import WHY_NOT_RANKS

    width = None if sys.stdout.isatty() else WIDTH
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
    runs = Table("run", "best", "median", "above .5", "best channels", box=None, pad_edge=False, padding=(0, 2))
    for run, label in zip(found.runs, found.labels, strict=True):
        varying = run.table[~run.table.dead]
        best = " ".join(str(channel) for channel in run.table.head(N_BEST).channel)
        share = f"{(run.table.score > 0.5).mean():.0%}"
        runs.add_row(label, f"{run.table.score.max():.3f}", f"{varying.score.median():.3f}", share, best)
    print_whole(console, runs)
    if len(found.pairs):
        top = int(found.pairs.top.iloc[0])
        headings = ("first run", "second run", "Spearman", "Kendall", "RBO", f"top {top}")
        pairs = Table(*headings, box=None, pad_edge=False, padding=(0, 2))
        for row in found.pairs.to_dict("records"):
            pairs.add_row(row["first"], row["second"], *(f"{row[name]:.3f}" for name in MEASURES))
        console.print()
        print_whole(console, pairs)
    if found.is_mixed:
        console.print(f"\n{WHY_NOT_RANKS}")


if __name__ == "__main__":
    main()
