"""``python -m pipeline.store``: look at the artifact store, verify it, make room in it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.command_line import command
from pipeline.config import compose_settings
from pipeline.errors import SettingsError, StorageError
from pipeline.store.description import Description
from pipeline.store.housekeeping import collect, entries, remove
from pipeline.store.store import Store, storage_errors

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
Command = Callable[[Store, Console, argparse.Namespace], int]  # returns the exit code
N_COLUMNS = 140  # a table squeezed into less is harder to read than one that the terminal wraps
N_DIGITS = 8
# Of what an artifact was made from, what tells one from another at a glance.
TELLING = ("name", "weights", "class_name", "images", "layer", "target_class", "n_components", "statistic", "solver")


def size_in_bytes(text: str) -> int:
    """Return the bytes meant by ``5GiB`` or ``300 MiB``.

    Raises
    ------
    SettingsError
        If it is not a number and a unit.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]iB|B)", text.strip())
    if match is None:
        raise SettingsError(f"--keep must be a number and one of {', '.join(UNITS)}; got {text}. Try --keep 5GiB.")
    return int(float(match[1]) * UNITS[match[2]])


def shown_size(n_bytes: int) -> str:
    """Return a size as people read it."""
    unit = max((unit for unit, size in UNITS.items() if size <= n_bytes), key=UNITS.__getitem__, default="B")
    return f"{n_bytes} B" if unit == "B" else f"{n_bytes / UNITS[unit]:.1f} {unit}"


def _made_from(description: Description) -> str:
    """Return the telling ones of what an artifact was made from, in a few words."""
    made_from = description.made_from
    upstream = [f"{stage}/{digest[:N_DIGITS]}" for stage, digest in made_from["upstream"].items()]
    return " ".join([*_telling(made_from["reads"]), *upstream])


def _telling(reads: Mapping[str, Any]) -> Iterator[str]:
    for name, value in reads.items():
        if isinstance(value, Mapping):
            yield from _telling(value)
        elif name in TELLING and value is not None:
            is_digest = isinstance(value, str) and len(value) == 64
            yield f"{name}={value[:N_DIGITS] if is_digest else value}"


def _ls(store: Store, console: Console, _arguments: argparse.Namespace) -> int:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    for heading, justify in (("artifact", "left"), ("size", "right"), ("took", "right"), ("last used", "left")):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("made from")
    found = list(entries(store))
    for entry in found:
        used = datetime.fromtimestamp(entry.used, UTC).strftime("%Y-%m-%d %H:%M")
        description = entry.description
        took = f"{description.seconds:.1f} s" if description else ""
        made_from = _made_from(description) if description else f"damaged: {entry.damage}"
        table.add_row(entry.name, shown_size(entry.size), took, used, made_from)
    console.print(table)
    console.print(f"\n{len(found)} artifacts, {shown_size(sum(entry.size for entry in found))} in {store.root}")
    return 0


def _verify(store: Store, console: Console, _arguments: argparse.Namespace) -> int:
    found = list(entries(store, verify=True))
    damaged = [entry for entry in found if entry.damage]
    for entry in damaged:
        console.print(f"{entry.name} is damaged: {entry.damage}. The next run that needs it computes it again.")
    console.print(f"{len(found) - len(damaged)} of {len(found)} artifacts are as they were written ({store.root}).")
    return 1 if damaged else 0


def _gc(store: Store, console: Console, arguments: argparse.Namespace) -> int:
    removed, in_use = collect(store, size_in_bytes(arguments.keep))
    left = sum(entry.size for entry in entries(store))
    for entry in removed:
        console.print(f"removed {entry.name} ({shown_size(entry.size)})")
    for entry in in_use:
        console.print(f"kept {entry.name} ({shown_size(entry.size)}): a run uses it")
    console.print(f"{len(removed)} artifacts removed, {shown_size(left)} left in {store.root}")
    return 0


def _rm(store: Store, console: Console, arguments: argparse.Namespace) -> int:
    start: str = arguments.key
    matches = [entry for entry in entries(store) if entry.name.startswith(start)]
    if len(matches) != 1:
        found = f"{len(matches)} of them" if matches else "none"
        raise StorageError(
            f"KEY must be the name of one artifact, or how it starts; got '{start}' ({found} in {store.root}). "
            "`python -m pipeline.store ls` lists them."
        )
    (entry,) = matches
    if not remove(store, entry):
        raise StorageError(f"KEY must be an artifact that no run uses; got {entry.name}. Wait for the run to end.")
    console.print(f"removed {entry.name} ({shown_size(entry.size)})")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.store",
        description="Look at the artifact store, verify it, make room in it.",
        epilog="The store lies below paths.outputs: add paths.outputs=FOLDER to any command for another one.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ls = _command(commands, "ls", _ls, "what is there: size, when it was last used, what it was made from")
    verify = _command(
        commands,
        "verify",
        _verify,
        "read every byte and compare it with its checksum; exit code 1 if anything is damaged",
    )
    gc = _command(commands, "gc", _gc, "remove what was used longest ago")
    gc.add_argument("--keep", required=True, metavar="SIZE", help="how much may stay, e.g. 5GiB")
    rm = _command(commands, "rm", _rm, "remove one artifact")
    rm.add_argument("key", metavar="KEY", help="as `ls` shows it, or how it starts")
    for parser_of in (ls, verify, gc, rm):
        parser_of.add_argument("overrides", nargs="*", metavar="setting=value", help="e.g. paths.outputs=FOLDER")
    return parser


def _command(commands: Any, name: str, run: Command, text: str) -> argparse.ArgumentParser:
    """Add a command that calls `run`."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


@command
def main() -> None:
    """Do what the command line asks for; exit with 1 where it cannot be done, or something is damaged."""
    arguments = _parser().parse_args()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.width = max(console.width, N_COLUMNS)
    # Only where the store lies is asked; a source that lacks its folder shall not stand in the way.
    settings = compose_settings([*arguments.overrides, "data=digits"])
    store = Store(Path(settings.paths.outputs).absolute() / "store")
    with storage_errors("the store's locks", store.root):
        run: Command = arguments.run
        code = run(store, console, arguments)
    sys.exit(code)


if __name__ == "__main__":
    main()
