"""Timing of alternatives in turns, and tables for the terminal and in Markdown."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock time of one call in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best_in_turns(timers: Mapping[str, Callable[[], float]], n_rounds: int) -> dict[str, float]:
    """Return the shortest time of each alternative over several rounds.

    All alternatives take turns in each round, so that a slow phase of the machine affects all of them.

    Parameters
    ----------
    timers : mapping of str to callable
        For each alternative a function that returns its time in seconds.
    n_rounds : int
        Number of rounds.
    """
    rounds = [{name: timer() for name, timer in timers.items()} for _ in range(n_rounds)]
    return {name: min(each[name] for each in rounds) for name in timers}


def report(name: str, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], notes: str = "") -> None:
    """Print a table with its notes, and write both to ``results/<name>.md``."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2), header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    console = Console(width=160, highlight=False)
    console.print(table)
    if notes:
        console.print(notes)
    console.print()
    RESULTS.mkdir(exist_ok=True)
    lines = [" | ".join(headings), " | ".join("---" for _ in headings), *(" | ".join(row) for row in rows)]
    text = "".join(f"| {line} |\n" for line in lines)
    (RESULTS / f"{name}.md").write_text(f"{title}\n\n{text}\n{notes}\n", encoding="utf-8")
