"""Where artifacts lie on disk: written whole or not at all, by one process at a time, checked when they are used.

Layout: ``<root>/<stage>/<digest>/`` holds one artifact and its ``artifact.json``; ``<root>/tmp/`` holds what is
being written, ``<root>/locks/`` a lock for each key. A folder appears under its key only by a rename, when all its
files are on the disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from pipeline.errors import StorageError
from pipeline.store.description import DESCRIPTION, DamagedError, Description
from pipeline.store.keys import ArtifactKey
from pipeline.store.locks import Note, exclusive, hold


@contextmanager
def storage_errors(what: str, folder: Path) -> Iterator[None]:
    """Turn the disk's refusals inside the context into `StorageError`, which says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"the disk must have room for {what}; it is full ({folder}). Free some space, or set paths.outputs "
                "to another disk, and run again: what is finished stays."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise StorageError(
                f"paths.outputs must be a folder that can be written to; got {folder} ({error.strerror}). "
                "Set paths.outputs to another folder."
            ) from error
        raise


def _say_nothing(text: str) -> None:
    del text


class Store:
    """Artifacts below one folder, found by `ArtifactKey`.

    Used as a context: what it handed out is in use, and safe from `remove`, until the context ends.

    Parameters
    ----------
    root : Path
        Created when first written to.
    note : callable
        Told, in a line, that an artifact is damaged or that another process is waited for.
    """

    def __init__(self, root: Path, note: Note = _say_nothing) -> None:
        self.root = root
        self._note = note
        self._in_use = ExitStack()

    def __enter__(self) -> Self:
        """Begin to use artifacts."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go of what was used."""
        self._in_use.close()

    def find(self, key: ArtifactKey) -> Path | None:
        """Return the folder of the artifact, or None where it is not there or not as it was written."""
        try:
            return self._checked(key)
        except DamagedError:
            return None

    def obtain(self, key: ArtifactKey, fill: Callable[[Path], object]) -> tuple[Path, bool]:
        """Return the artifact's folder, and whether it was there already.

        Of many processes that want the same artifact one computes it; the others wait, and find it.

        Parameters
        ----------
        key : ArtifactKey
            Which one.
        fill : callable
            Called with an empty folder when the artifact has to be made; it becomes the artifact.

        Raises
        ------
        StorageError
            If the disk is full or the store cannot be written to. Nothing half written stays behind.
        """
        if (folder := self.find(key)) is not None:
            return folder, True
        with storage_errors(f"the {key.stage} stage", self.root), exclusive(self._lock(key), str(key), self._note):
            try:
                if (folder := self._checked(key)) is not None:
                    return folder, True  # somebody else has made it while we waited
            except DamagedError as damage:
                self._note(f"{key} is damaged: {damage}. It is computed again.")
            return self._create(key, fill), False

    def folders(self) -> list[Path]:
        """Return the folders of all artifacts, damaged ones too, by stage and digest."""
        return sorted(path for path in self.root.glob("*/*/") if path.parent.name not in ("tmp", "locks"))

    def _checked(self, key: ArtifactKey) -> Path | None:
        """Return the artifact's folder, in use from now on; None where it is not there."""
        folder = self.root / str(key)
        descriptor = hold(folder)  # before the check: what is found whole must still be whole when it is loaded
        if descriptor is None:
            return None
        try:
            description = Description.load(folder)
            if description.digest != key.digest:
                raise DamagedError(f"{DESCRIPTION} is that of another artifact")
            description.check(folder)
        except BaseException:
            os.close(descriptor)
            raise
        self._in_use.callback(os.close, descriptor)
        with suppress(OSError):  # a store that may only be read is none the worse
            os.utime(folder)  # when it was last used, for `gc`
        return folder

    def _create(self, key: ArtifactKey, fill: Callable[[Path], object]) -> Path:
        """Make the artifact in a folder that only the lock's owner touches, then rename that to its place."""
        temporary, target = self.root / "tmp" / str(key).replace("/", "-"), self.root / str(key)
        shutil.rmtree(temporary, ignore_errors=True)  # of an owner that was killed
        try:
            temporary.mkdir(parents=True)
            start = time.perf_counter()
            fill(temporary)
            Description.of(temporary, key, time.perf_counter() - start).save(temporary)
            for path in temporary.rglob("*"):
                _fsync(path)
            _fsync(temporary)
            descriptor = hold(temporary)
            assert descriptor is not None
            self._in_use.callback(os.close, descriptor)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                shutil.rmtree(target)  # it is damaged
            temporary.rename(target)
            _fsync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    def _lock(self, key: ArtifactKey) -> Path:
        return self.root / "locks" / str(key).replace("/", "-")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
