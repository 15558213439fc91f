"""The memory allocator of glibc, told to keep freed memory while a network or numerical code runs.

By default it returns every large block to the system. Each layer of a network, and each channel of a layer, then takes
new memory, which the system fills with zeros page by page. For a forward pass of ResNet-18 on a CPU this takes a third
of the time. See docs/decisions/0130.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of the parameters in malloc.h
LARGEST_KEPT = 2**29  # bytes of a block; larger ones would leave gaps that no other block fills
_KEEPING = {_MMAP_THRESHOLD: LARGEST_KEPT, _TRIM_THRESHOLD: 2**31 - 1}
# What glibc itself reaches, at most, in a program that frees large blocks. The initial values cannot be restored.
_USUAL = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}
_lock = threading.Lock()
_n_inside = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in the process inside the context, and return it to the system at the end.

    It is also a decorator of functions. If the context is entered several times, also by other threads, the memory is
    returned at the last end. Without glibc, nothing changes.
    """
    global _n_inside
    with _lock:
        if _n_inside == 0:
            _set(_KEEPING)
        _n_inside += 1
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0:
                _set(_USUAL)
                if (library := _glibc()) is not None:
                    library.malloc_trim(0)


def _set(values: dict[int, int]) -> None:
    if (library := _glibc()) is not None:
        for parameter, value in values.items():
            library.mallopt(parameter, value)


@cache
def _glibc() -> Any:
    """Return the C library if it is glibc, else None."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):  # TypeError: on Windows
        return None
