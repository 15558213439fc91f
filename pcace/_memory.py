"""How much memory is left for images and maps, so that too many of them are refused and not the process is killed."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InputError

GIB = 2**30
_CGROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Return the number of bytes of memory that this process can still take; None if it is not known."""
    found = [each for each in (_of_machine(), _of_container()) if each is not None]
    return min(found) if found else None


def check_room(n_bytes: int, what: str, advice: str) -> None:
    """Raise `InputError` if something does not fit into the memory.

    Parameters
    ----------
    n_bytes : int
        Its size.
    what : str
        What it is, for the message.
    advice : str
        Sentence that says what to do.
    """
    left = available()
    if left is not None and n_bytes > left:
        raise InputError(
            f"{what} must fit into the memory; got {n_bytes / GIB:.1f} GiB ({left / GIB:.1f} GiB are available). "
            f"{advice}"
        )


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return int(values["MemAvailable"][0]) * 1024 if "MemAvailable" in values else None


def _of_container() -> int | None:
    """Return what the limit of a control group leaves, in which containers run."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (_CGROUP / "memory.current").read_text(encoding="ascii").strip()
        return None if limit == "max" else max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return None
