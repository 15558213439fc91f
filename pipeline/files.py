"""Files that are written whole or not at all: under a temporary name first, then renamed to their place.

A rename within a file system is atomic, so a reader finds the old file or the new one, and an error or Ctrl-C midway
leaves the old one. The data is not forced to the disk: what a power failure leaves is up to the file system.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path


@contextmanager
def whole_file(path: Path, *, temporary_folder: Path | None = None) -> Iterator[Path]:
    """Return a temporary path to write to; it is renamed to `path` if the context ends without an error.

    The name is unique, so that several processes may write the same file: the last one to finish decides its content.

    Parameters
    ----------
    path : Path
        The file to create or to replace. Its folder is created if it is missing.
    temporary_folder : Path, optional
        Folder of the temporary file, on the same file system as `path`; by default the folder of `path`.

    Yields
    ------
    Path
        The temporary file, which does not exist yet. It is removed if the context ends with an error.
    """
    folder = path.parent if temporary_folder is None else temporary_folder
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{path.name}.{uuid.uuid4().hex}.part"
    try:
        yield temporary
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | str) -> None:
    """Write `data`, text as UTF-8, to the file `path`, whole or not at all; see `whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def copy_whole(source: Path, target: Path) -> None:
    """Copy the content of the file `source` to the file `target`, whole or not at all; see `whole_file`."""
    with whole_file(target) as temporary:
        shutil.copyfile(source, temporary)


@cache
def temporary_home() -> Path:
    """Return a folder for caches of a user without a writable home directory.

    It is the same in all processes of the user, unless another user has created a folder of this name.
    """
    folder = Path(tempfile.gettempdir()) / f"pcace-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    is_own = folder.lstat().st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink()
    return folder if is_own else Path(tempfile.mkdtemp(prefix="pcace-"))
