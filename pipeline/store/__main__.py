"""The command ``pcace store``: list, verify and remove artifacts in the store."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table

from pipeline.command_line import command
from pipeline.config import compose_settings
from pipeline.errors import SettingsError, StorageError
from pipeline.store.description import Description
from pipeline.store.housekeeping import collect, entries, remove
from pipeline.store.store import Store, storage_errors

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
Command = Callable[[Store, Console, argparse.Namespace], int]  # returns the exit code
MIN_WIDTH = 140  # a table that is compressed to a narrow terminal is harder to read than one with wrapped lines
N_DIGITS = 8
# Settings and inputs by which people distinguish artifacts; the others are not listed.
LISTED = ("name", "weights", "class_name", "images", "layer", "target_class", "n_components", "statistic", "solver")
COLUMNS: tuple[tuple[str, JustifyMethod], ...] = (
    ("artifact", "left"), ("size", "right"), ("duration", "right"), ("last used", "left"),
)  # fmt: skip


def size_in_bytes(text: str) -> int:
    """Convert a size such as ``5GiB`` or ``300 MiB`` to bytes.

    Raises
    ------
    SettingsError
        If `text` is not a number followed by a unit.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]iB|B)", text.strip())
    if match is None:
        raise SettingsError(
            f"--keep must be a number with a unit ({', '.join(UNITS)}); got {text}. Example: --keep 5GiB."
        )
    return int(float(match[1]) * UNITS[match[2]])


def formatted_size(n_bytes: int) -> str:
    """Return a size with the largest suitable unit, such as ``1.5 KiB``."""
    unit = max((unit for unit, size in UNITS.items() if size <= n_bytes), key=UNITS.__getitem__, default="B")
    return f"{n_bytes} B" if unit == "B" else f"{n_bytes / UNITS[unit]:.1f} {unit}"


def _made_from(description: Description) -> str:
    """Return the most important settings and inputs of an artifact in one line."""
    made_from = description.made_from
    upstream = [f"{stage}/{digest[:N_DIGITS]}" for stage, digest in made_from["upstream"].items()]
    return " ".join([*_listed_settings(made_from["reads"]), *upstream])


def _listed_settings(reads: Mapping[str, Any]) -> Iterator[str]:
    """Yield ``name=value`` for each setting in `LISTED`, at any depth; digests are abbreviated."""
    for name, value in reads.items():
        if isinstance(value, Mapping):
            yield from _listed_settings(value)
        elif name in LISTED and value is not None:
            is_digest = isinstance(value, str) and len(value) == 64
            yield f"{name}={value[:N_DIGITS] if is_digest else value}"


def _ls(store: Store, console: Console, _arguments: argparse.Namespace) -> int:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    for heading, justify in COLUMNS:
        table.add_column(heading, justify=justify, no_wrap=True)
    table.add_column("computed from")
    found = list(entries(store))
    for entry in found:
        used = datetime.fromtimestamp(entry.used, UTC).strftime("%Y-%m-%d %H:%M")
        description = entry.description
        duration = f"{description.seconds:.1f} s" if description else ""
        made_from = _made_from(description) if description else f"damaged: {entry.damage}"
        table.add_row(entry.name, formatted_size(entry.size), duration, used, made_from)
    console.print(table)
    console.print(f"\n{len(found)} artifacts, {formatted_size(sum(entry.size for entry in found))} in {store.root}")
    return 0


def _verify(store: Store, console: Console, _arguments: argparse.Namespace) -> int:
    found = list(entries(store, verify=True))
    damaged = [entry for entry in found if entry.damage]
    for entry in damaged:
        console.print(f"{entry.name} is damaged: {entry.damage}. The next run that needs it computes it again.")
    console.print(f"{len(found) - len(damaged)} of {len(found)} artifacts match their checksums ({store.root}).")
    return 1 if damaged else 0


def _gc(store: Store, console: Console, arguments: argparse.Namespace) -> int:
    removed, in_use = collect(store, size_in_bytes(arguments.keep))
    left = sum(entry.size for entry in entries(store))
    for entry in removed:
        console.print(f"removed {entry.name} ({formatted_size(entry.size)})")
    for entry in in_use:
        console.print(f"kept {entry.name} ({formatted_size(entry.size)}): it is in use")
    console.print(f"{len(removed)} artifacts removed, {formatted_size(left)} left in {store.root}")
    return 0


def _rm(store: Store, console: Console, arguments: argparse.Namespace) -> int:
    key: str = arguments.key
    matches = [entry for entry in entries(store) if entry.name.startswith(key)]
    if len(matches) != 1:
        raise StorageError(
            f"KEY must be the name of exactly one artifact, or its beginning; got '{key}' ({len(matches)} artifacts in "
            f"{store.root}). `pcace store ls` lists the names."
        )
    (entry,) = matches
    if not remove(store, entry):
        raise StorageError(f"KEY must be an artifact that is not in use; got {entry.name}. Wait until the run ends.")
    console.print(f"removed {entry.name} ({formatted_size(entry.size)})")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pcace store",
        description="List, verify and remove artifacts in the store.",
        epilog="The store is in the folder paths.outputs: add paths.outputs=FOLDER to a command to use another one.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ls = _command(commands, "ls", _ls, "list all artifacts: size, duration, last use, what they were computed from")
    verify = _command(commands, "verify", _verify, "compare all files with their checksums; exit code 1 if one differs")
    gc = _command(commands, "gc", _gc, "remove the least recently used artifacts")
    gc.add_argument("--keep", required=True, metavar="SIZE", help="total size that may remain, e.g. 5GiB")
    rm = _command(commands, "rm", _rm, "remove one artifact")
    rm.add_argument("key", metavar="KEY", help="name of the artifact as `ls` shows it, or its beginning")
    for each in (ls, verify, gc, rm):
        each.add_argument("overrides", nargs="*", metavar="setting=value", help="e.g. paths.outputs=FOLDER")
    return parser


def _command(commands: Any, name: str, run: Command, text: str) -> argparse.ArgumentParser:
    """Add the command `name`, which calls `run` and is described by `text`."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


@command
def main() -> None:
    """Run the command; the exit code is 1 if it cannot be done, or if `verify` finds damage."""
    arguments = _parser().parse_args()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.width = max(console.width, MIN_WIDTH)
    # Only paths.outputs is needed. With data=digits no other setting, such as the folder of a source, is checked.
    settings = compose_settings([*arguments.overrides, "data=digits"])
    store = Store(Path(settings.paths.outputs).absolute() / "store")
    with storage_errors("the store's locks", store.root):
        run: Command = arguments.run
        code = run(store, console, arguments)
    sys.exit(code)


if __name__ == "__main__":
    main()
