"""Progress of a ranking: a bar in a terminal, a line in a notebook, and nothing where the output is a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.progress import Progress

ShowProgress = Callable[[str], Progress]
"""From the name of a step to the function that shows its progress."""


def _ignored(done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def shown_progress(*, is_shown: bool) -> Iterator[ShowProgress]:
    """Show the progress of the steps inside the context, and remove it at the end.

    Parameters
    ----------
    is_shown : bool
        Whether progress is shown where that is possible.

    Yields
    ------
    callable
        From the name of a step to the function that is called with the units done and the number of all units.
    """
    if is_shown and _in_notebook():
        with _notebook_line() as show:
            yield show
    elif is_shown and sys.stderr.isatty():
        with _terminal_bar() as show:
            yield show
    else:
        yield lambda name: _ignored


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def _terminal_bar() -> Iterator[ShowProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:

        def show(name: str) -> Progress:
            task = bars.add_task(name, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield show


@contextmanager
def _notebook_line() -> Iterator[ShowProgress]:
    """Show the progress as one line of text, which needs no widgets, and leave nothing in the saved notebook."""
    from IPython.display import clear_output, display

    handle: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def show(name: str) -> Progress:
        last = -1

        def progress(done: int, total: int) -> None:
            nonlocal last
            share = 100 * done // max(total, 1)
            if share != last:
                last = share
                handle.update({"text/plain": f"{name} {share} %"}, raw=True)

        return progress

    try:
        yield show
    finally:
        clear_output()
