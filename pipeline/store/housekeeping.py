"""Maintenance of the store: list and verify artifacts, and remove those that have not been used for longest."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.store.description import DamagedError, Description
from pipeline.store.keys import ArtifactKey
from pipeline.store.locks import free, unused
from pipeline.store.parts import owner_of
from pipeline.store.store import Store, remove_any


@dataclass(frozen=True)
class Entry:
    """One artifact in the store.

    Attributes
    ----------
    name : str
        ``<stage>/<first digits of the digest>``.
    folder : Path
        Folder of the artifact.
    used : float
        Time of the last use, in seconds since 1970.
    size : int
        Size of all files in bytes.
    description : Description or None
        Description of the artifact; None if it cannot be read.
    damage : str or None
        What is wrong with the artifact; None if no damage was found.
    """

    name: str
    folder: Path
    used: float
    size: int
    description: Description | None
    damage: str | None = None


def entries(store: Store, *, verify: bool = False) -> Iterator[Entry]:
    """Yield all artifacts in the store; with `verify`, every byte of every file is compared with its checksum."""
    for folder in store.folders():
        description, damage = None, None
        try:
            description = Description.load(folder)
            if verify:
                description.check(folder, fully=True)
        except DamagedError as error:
            damage = str(error)
        # The size is that which the removal would free, and a link is not followed by the removal.
        files = [] if folder.is_symlink() else [path.lstat() for path in folder.rglob("*")]
        size = sum(each.st_size for each in files if stat.S_ISREG(each.st_mode))
        name = folder.relative_to(store.root).as_posix()
        yield Entry(name, folder, folder.lstat().st_mtime, size, description, damage)


def collect(store: Store, keep: int) -> tuple[list[Entry], list[Entry]]:
    """Remove the least recently used artifacts, and incomplete ones of runs that were killed.

    Parameters
    ----------
    store : Store
        The store to clean up.
    keep : int
        Total size in bytes that the remaining artifacts may have.

    Returns
    -------
    removed : list of Entry
        The artifacts that were removed.
    in_use : list of Entry
        Artifacts that should have been removed as well, but are in use.
    """
    for leftover in store.root.glob("tmp/*"):
        with free(store.root / "locks" / owner_of(leftover.name)) as is_free:
            if is_free:
                remove_any(leftover)
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


def discard_temporary(store: Store, key: ArtifactKey) -> None:
    """Remove an artifact that was computed to be removed again, if it exists, unless another run uses it."""
    if store.is_temporary(key):
        remove(store, Entry(str(key), store.root / str(key), used=0.0, size=0, description=None))


def remove(store: Store, entry: Entry) -> bool:
    """Remove an artifact, unless a run uses it or computes it again, and return whether it was removed."""
    name = entry.name.replace("/", "-")
    temporary = store.root / "tmp" / name
    with free(store.root / "locks" / name) as is_free:
        if not is_free:
            return False
        remove_any(temporary)
        with unused(entry.folder) as is_unused:
            if not is_unused:
                return False
            temporary.parent.mkdir(exist_ok=True)
            entry.folder.rename(temporary)  # one atomic step, so that no run finds an incomplete artifact
        remove_any(temporary)
    return True
