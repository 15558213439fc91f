"""Locks for writing and for using artifacts. The operating system releases them when their owner ends or is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import StorageError

Note = Callable[[str], None]
# Errors of `flock` on a file system without locks.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def lock_errors(path: Path) -> Iterator[None]:
    """Convert the error of a file system without locks to `StorageError`; only locks may be requested in the context.

    Parameters
    ----------
    path : Path
        The locked file or folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        raise StorageError(
            f"paths.outputs must be on a file system with locks (flock); got {path.parent} ({error.strerror}). Set "
            "paths.outputs to a folder on a local disk, or have the file system mounted with locks (NFS 4; Lustre with "
            "the option flock)."
        ) from error


def _file_lock(path: Path) -> FileLock:
    """Return a lock that is not replaced by a file that exists where `flock` is missing: it would outlive a kill."""
    return FileLock(path, fallback_to_soft=False)


@contextmanager
def process_lock(path: Path) -> Iterator[None]:
    """Hold a lock that only one process at a time can hold; wait for it without a message, because it is held briefly.

    Parameters
    ----------
    path : Path
        File of the lock, in an existing folder. It is created if it is missing, and never removed.
    """
    lock = _file_lock(path)
    with lock_errors(path):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def exclusive(path: Path, what: str, note: Note) -> Iterator[None]:
    """Hold a lock that only one process at a time can hold; wait for it if necessary.

    Parameters
    ----------
    path : Path
        File of the lock. It is created if it is missing, and never removed.
    what : str
        What is computed under the lock, for the message.
    note : callable
        Called with a message if another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _file_lock(path)
    try:
        with lock_errors(path):
            lock.acquire(blocking=False)
    except Timeout:
        note(f"{what} is being computed by {_owner(path)}; waiting for it.")
        lock.acquire()
    try:
        path.write_text(_this_process(), encoding="utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def free(path: Path) -> Iterator[bool]:
    """Try to hold the lock of `exclusive` without waiting, and return whether it was free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _file_lock(path)
    try:
        with lock_errors(path):
            lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def claimed(path: Path) -> Iterator[str]:
    """Try to hold the lock of `exclusive` without waiting.

    Parameters
    ----------
    path : Path
        File of the lock. It is created if it is missing, and never removed.

    Yields
    ------
    str
        Empty if this process holds the lock until the context ends; otherwise a description of the process that does.
    """
    with free(path) as is_free:
        if is_free:
            path.write_text(_this_process(), encoding="utf-8")
        yield "" if is_free else _owner(path)


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _owner(path: Path) -> str:
    """Return a description of the process that holds a lock, as it wrote it to the file."""
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def hold(folder: Path) -> int | None:
    """Mark a folder as in use until the returned descriptor is closed; return None if there is no such folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        with lock_errors(folder):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Return whether nothing marks the folder as in use, and keep others from doing so inside the context."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with lock_errors(folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
