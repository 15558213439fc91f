"""Tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

UNLIMITED = 10_000  # characters


def print_whole(console: Console, table: Table) -> None:
    """Print a table with complete cells, also if its lines are longer than those of the console.

    Rich would reduce the table to the width of the console by shortening names and numbers.
    """
    table.width = console.measure(table, options=console.options.update(width=UNLIMITED)).maximum
    console.print(table, soft_wrap=True)
