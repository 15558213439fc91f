"""What a person does with a store: look, verify, make room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.store.description import DamagedError, Description
from pipeline.store.locks import free, unused
from pipeline.store.store import Store


@dataclass(frozen=True)
class Entry:
    """One artifact as it lies in the store: its description, or what is wrong with it.

    Attributes
    ----------
    name : str
        ``<stage>/<digest>``, as `remove` takes it.
    folder : Path
        Where it lies.
    used : float
        When it was last used, seconds since 1970.
    size : int
        Bytes on the disk.
    description : Description or None
        None where it cannot be read.
    damage : str or None
        What is wrong.
    """

    name: str
    folder: Path
    used: float
    size: int
    description: Description | None
    damage: str | None = None


def entries(store: Store, *, verify: bool = False) -> Iterator[Entry]:
    """Yield what the store holds; `verify` reads every byte of every file."""
    for folder in store.folders():
        description, damage = None, None
        try:
            description = Description.load(folder)
            if verify:
                description.check(folder, fully=True)
        except DamagedError as error:
            damage = str(error)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        name = folder.relative_to(store.root).as_posix()
        yield Entry(name, folder, folder.stat().st_mtime, size, description, damage)


def collect(store: Store, keep: int) -> tuple[list[Entry], list[Entry]]:
    """Remove what was used longest ago until at most `keep` bytes are left, and what killed runs left half written.

    Returns
    -------
    removed, in_use : list of Entry
        What is gone, and what had to go but is in use.
    """
    for leftover in store.root.glob("tmp/*"):
        with free(store.root / "locks" / leftover.name) as is_free:
            if is_free:
                shutil.rmtree(leftover, ignore_errors=True)
    found = sorted(entries(store), key=lambda entry: entry.used)
    total, removed, in_use = sum(entry.size for entry in found), [], []
    for entry in found:
        if total <= keep:
            break
        if remove(store, entry):
            total -= entry.size
            removed.append(entry)
        else:
            in_use.append(entry)
    return removed, in_use


def remove(store: Store, entry: Entry) -> bool:
    """Remove an artifact and say whether that was possible: one that a run uses, or makes anew, stays."""
    name = entry.name.replace("/", "-")
    aside = store.root / "tmp" / name
    with free(store.root / "locks" / name) as is_free:
        if not is_free:
            return False
        shutil.rmtree(aside, ignore_errors=True)
        with unused(entry.folder) as is_unused:
            if not is_unused:
                return False
            aside.parent.mkdir(exist_ok=True)
            entry.folder.rename(aside)  # gone in one step: nobody meets half an artifact
        shutil.rmtree(aside, ignore_errors=True)
    return True
