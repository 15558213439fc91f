"""Who may write, and what must stay: locks that the system takes back when their owner dies."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

Note = Callable[[str], None]


@contextmanager
def exclusive(path: Path, what: str, note: Note) -> Iterator[None]:
    """Let one process at a time inside; whoever has to wait for it says so once.

    The lock is the system's (``flock``): a process that was killed holds it no longer.

    Parameters
    ----------
    path : Path
        The lock's file; it stays.
    what : str
        What the lock's owner does, for the message.
    note : callable
        Takes the message.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        note(f"{what} is being computed by {_owner(path)}; waiting for it.")
        lock.acquire()
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def free(path: Path) -> Iterator[bool]:
    """Say whether nobody is inside `exclusive` of the same path, and keep it so inside the context."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def hold(folder: Path) -> int | None:
    """Mark a folder as in use until the descriptor returned is closed; return None where it is not there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Say whether nobody uses the folder, and keep it so inside the context."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
