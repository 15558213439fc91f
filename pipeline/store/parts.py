"""Finished parts of an artifact whose computation is divided among processes, which may run on several machines.

The parts of an artifact are folders beside its temporary folder, ``<root>/tmp/<stage>-<digest>.parts/<name>/``. Each is
written whole or not at all. They outlive a killed run, so that the next run computes only what is missing, and are
removed when the artifact is complete.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

SUFFIX = ".parts"
UNFINISHED = ".tmp"
SECONDS_VISIBLE = 60.0  # after which a file that another machine has written must be visible: NFS caches folders


def parts_folder(temporary: Path) -> Path:
    """Return the folder of the parts of an artifact, given the temporary folder that the artifact is written into."""
    return temporary.with_name(temporary.name + SUFFIX)


def owner_of(name: str) -> str:
    """Return the name of the lock that protects a temporary folder or a folder of parts of this name."""
    return name.removesuffix(SUFFIX)


def write_part(folder: Path, fill: Callable[[Path], object]) -> None:
    """Write a part, unless another process has written it already.

    Parameters
    ----------
    folder : Path
        Folder of the part. The folder that contains it must exist.
    fill : callable
        Called with the path of an empty folder, to which it writes the files of the part.

    Raises
    ------
    OSError
        If the files cannot be written.
    """
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}{UNFINISHED}")
    temporary.mkdir()
    try:
        fill(temporary)
        for path in temporary.rglob("*"):
            fsync(path)
        fsync(temporary)
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        fsync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def finished_parts(folder: Path) -> set[str]:
    """Return the names of the parts in the folder that are finished; remove what killed processes have left."""
    names = {path.name for path in folder.iterdir()}
    for name in names:
        if name.endswith(UNFINISHED):
            shutil.rmtree(folder / name, ignore_errors=True)
    return {name for name in names if not name.endswith(UNFINISHED)}


def is_visible(folder: Path, seconds: float = SECONDS_VISIBLE) -> bool:
    """Return whether a folder exists, or appears within some seconds, which it may need on a network file system."""
    end = time.monotonic() + seconds
    while not folder.is_dir():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
        if folder.parent.is_dir():
            os.listdir(folder.parent)  # makes NFS ask the server again
    return True


def fsync(path: Path) -> None:
    """Write a file or folder from the cache of the operating system to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
