"""How much memory is left, so that large images and maps are written to temporary files."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Return the number of bytes of memory that this process can still take; None if it is not known."""
    found = [each for each in (_of_machine(), _of_container()) if each is not None]
    return min(found) if found else None


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
        parts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        cached = int(parts["file"]) - int(parts["shmem"])  # of files: the kernel frees it when it is needed
        return None if limit == "max" else max(0, int(limit) - int(used) + cached)
    except (OSError, ValueError, KeyError):
        return None
