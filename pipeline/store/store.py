"""Artifacts on disk: each is computed by one process at a time, written whole or not at all, and checked when used.

``<root>/<stage>/<digest>/`` contains one artifact and its ``artifact.json``, ``<root>/tmp/`` the artifacts that are
being written (and their parts, see `pipeline.store.parts`), and ``<root>/locks/`` one lock file per key. The folder of
a key is created by a rename after all files have been written to the disk.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from pipeline.artifacts.base import DESCRIPTION
from pipeline.errors import StorageError
from pipeline.store.description import DamagedError, Description
from pipeline.store.keys import ArtifactKey
from pipeline.store.locks import Note, exclusive, hold
from pipeline.store.parts import fsync, parts_folder

TEMPORARY = ".temporary"  # empty file in the folder of an artifact that was computed to be removed again


@contextmanager
def storage_errors(what: str, folder: Path) -> Iterator[None]:
    """Convert errors of a full or read-only disk inside the context to `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"the disk must have room for {what}; got a full disk ({folder}). Free some space or set paths.outputs "
                "to another disk, and run again: finished stages are kept."
            ) from error
        if error.errno == errno.EXDEV:
            raise StorageError(
                f"the store must be on one file system; got folders on several ({folder}). Set paths.outputs to a "
                "folder on the other disk, instead of linking a folder inside the store."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
            raise StorageError(
                f"paths.outputs must be a writable folder; got {folder} ({error.strerror}). "
                "Set paths.outputs to another folder."
            ) from error
        raise


def _ignore(_message: str) -> None:
    """Discard a message."""


class Store:
    """Artifacts below one folder, found by `ArtifactKey`.

    A store is a context manager: artifacts that it has returned are marked as in use, and cannot be removed, until the
    context ends.

    Parameters
    ----------
    root : Path
        Folder of the store. It is created when the first artifact is written.
    note : callable
        Called with a message of one line if an artifact is damaged, or if the store waits for another process.
    outer : Store, optional
        See `inner`.
    """

    def __init__(self, root: Path, note: Note = _ignore, outer: Store | None = None) -> None:
        self.root = root
        self._note = note
        self._outer = outer
        self._known: set[str] = set()
        self._in_use = ExitStack()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Mark all artifacts as no longer in use."""
        self._known.clear()
        self._in_use.close()

    def inner(self) -> Store:
        """Return a store for the same folder, whose context ends before that of this one.

        What this one has returned is not compared with its checksums again.
        """
        return Store(self.root, self._note, self)

    def find(self, key: ArtifactKey) -> Path | None:
        """Return the folder of the artifact, or None if it is missing or damaged."""
        if self._outer is not None and self._outer.knows(key):
            return self.root / str(key)
        try:
            return self._checked(key)
        except DamagedError:
            return None

    def has(self, key: ArtifactKey) -> bool:
        """Return whether there is an artifact. Its files are not checked, and it is not marked as in use."""
        try:
            return Description.load(self.root / str(key)).digest == key.digest
        except DamagedError:
            return False

    def knows(self, key: ArtifactKey) -> bool:
        """Return whether this store, or the one that it is an inner store of, has returned the artifact."""
        return str(key) in self._known or (self._outer is not None and self._outer.knows(key))

    def obtain(self, key: ArtifactKey, fill: Callable[[Path], object]) -> tuple[Path, bool]:
        """Return the folder of an artifact, and compute the artifact first if it is missing or damaged.

        If several processes need the same artifact at a time, one of them computes it and the others wait.

        Parameters
        ----------
        key : ArtifactKey
            Key of the artifact.
        fill : callable
            Called with the path of an empty folder, to which it writes the files of the artifact.

        Returns
        -------
        folder : Path
            Folder of the artifact.
        is_cached : bool
            Whether the artifact was in the store; otherwise it has been computed.

        Raises
        ------
        StorageError
            If the disk is full or the store cannot be written to. No incomplete artifact is left.
        """
        if (folder := self.find(key)) is not None:
            return folder, True
        with storage_errors(f"the {key.stage} stage", self.root), exclusive(self._lock(key), str(key), self._note):
            try:
                if (folder := self._checked(key)) is not None:
                    return folder, True  # another process has computed it in the meantime
            except DamagedError as damage:
                self._note(f"{key} is damaged: {damage}. It is computed again.")
            return self._create(key, fill), False

    def obtain_all(
        self,
        keys: Sequence[ArtifactKey],
        fill: Callable[[Mapping[str, Path]], Collection[str]],
        *,
        is_temporary: bool = False,
    ) -> dict[str, Path]:
        """Return the folders of several artifacts, and compute those that are missing together.

        Processes that compute several artifacts take the locks in the same order, so that none waits for the other.

        Parameters
        ----------
        keys : sequence of ArtifactKey
            Keys of the artifacts, all different.
        fill : callable
            Called once with an empty folder for each missing artifact, by the text of its key. It returns the keys of
            the artifacts whose files it has written completely; the others are not kept.
        is_temporary : bool
            Whether the computed artifacts are marked, so that `housekeeping.discard_temporary` removes them, also if
            this process is killed before.

        Returns
        -------
        dict of str to Path
            Folders of the artifacts by the text of their keys, without those that `fill` could not compute.

        Raises
        ------
        StorageError
            As `obtain`.
        """
        found = {str(key): folder for key in keys if (folder := self.find(key)) is not None}
        missing = sorted((key for key in keys if str(key) not in found), key=str)
        if not missing:
            return found
        with storage_errors(f"the {missing[0].stage} stage", self.root), ExitStack() as locks:
            for key in missing:
                locks.enter_context(exclusive(self._lock(key), str(key), self._note))
            found |= {str(key): folder for key in missing if (folder := self.find(key)) is not None}
            missing = [key for key in missing if str(key) not in found]
            if not missing:
                return found  # other processes have computed them in the meantime
            temporaries = {str(key): self._temporary(key) for key in missing}
            try:
                for folder in temporaries.values():
                    remove_any(folder)  # left by a process that was killed
                    folder.mkdir(parents=True)
                start = time.perf_counter()
                filled = fill(temporaries)
                seconds = (time.perf_counter() - start) / len(missing)
                made = [key for key in missing if str(key) in filled]
                made.sort(key=lambda key: -_size(temporaries[str(key)]))  # so that the last ones end at the same time
                with ThreadPoolExecutor() as threads:  # checksums of large files take long, and need no Python
                    list(threads.map(lambda key: self._write(key, temporaries[str(key)], seconds, is_temporary), made))
                for key in made:
                    found[str(key)] = self._rename(key, temporaries[str(key)])
                for folder in temporaries.values():  # they may be beside an artifact that could not be computed
                    shutil.rmtree(parts_folder(folder), ignore_errors=True)
            finally:
                for folder in temporaries.values():
                    shutil.rmtree(folder, ignore_errors=True)
        return found

    def is_temporary(self, key: ArtifactKey) -> bool:
        """Return whether there is an artifact that was computed to be removed again."""
        return (self.root / str(key) / TEMPORARY).exists()

    def folders(self) -> list[Path]:
        """Return the folders of all artifacts, including damaged ones, sorted by stage and digest."""
        return sorted(path for path in self.root.glob("*/*/") if path.parent.name not in ("tmp", "locks"))

    def _checked(self, key: ArtifactKey) -> Path | None:
        """Return the folder of the artifact and mark it as in use; return None if it is missing.

        Raises
        ------
        DamagedError
            If the artifact is not as it was written.
        """
        folder = self.root / str(key)
        descriptor = hold(folder)  # before the check, so that the artifact cannot be removed between check and use
        if descriptor is None:
            return None
        try:
            description = Description.load(folder)
            if description.digest != key.digest:
                raise DamagedError(f"{DESCRIPTION} describes another artifact")
            description.check(folder)
        except BaseException:
            os.close(descriptor)
            raise
        self._in_use.callback(os.close, descriptor)
        self._known.add(str(key))
        with suppress(OSError):  # the store may be read-only
            os.utime(folder, follow_symlinks=False)  # the time of the last use, for `collect`
        return folder

    def _create(self, key: ArtifactKey, fill: Callable[[Path], object]) -> Path:
        """Compute the artifact in a temporary folder and rename that folder. The caller must hold the lock."""
        temporary = self._temporary(key)
        try:
            remove_any(temporary)  # left by a process that was killed
            temporary.mkdir(parents=True)
            start = time.perf_counter()
            fill(temporary)
            self._write(key, temporary, time.perf_counter() - start)
            return self._rename(key, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _write(self, key: ArtifactKey, temporary: Path, seconds: float, is_temporary: bool = False) -> None:
        """Describe the artifact in a temporary folder, and write everything to the disk."""
        Description.of(temporary, key, seconds).save(temporary)
        if is_temporary:
            (temporary / TEMPORARY).touch()
        for path in temporary.rglob("*"):
            fsync(path)
        fsync(temporary)

    def _rename(self, key: ArtifactKey, temporary: Path) -> Path:
        """Give the folder of a complete artifact its place in the store, and return it."""
        target = self.root / str(key)
        descriptor = hold(temporary)
        assert descriptor is not None
        self._in_use.callback(os.close, descriptor)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_any(target)  # a damaged artifact
        temporary.rename(target)
        fsync(target.parent)
        self._known.add(str(key))
        shutil.rmtree(parts_folder(temporary), ignore_errors=True)
        return target

    def _temporary(self, key: ArtifactKey) -> Path:
        return self.root / "tmp" / str(key).replace("/", "-")

    def _lock(self, key: ArtifactKey) -> Path:
        return self.root / "locks" / str(key).replace("/", "-")


def _size(folder: Path) -> int:
    """Return the number of bytes in the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*"))


def remove_any(path: Path) -> None:
    """Remove a folder with its files, a file or a link, if it exists. What a link leads to is not touched."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
