"""The memory allocator of glibc, told to keep what a batch of images has freed for the next one.

By default it returns every large block to the system, and each layer of the network then takes new memory for its
output, which the system fills with zeros page by page. On CPUs this takes a quarter of a forward pass of ResNet-18 and
more of larger networks. See docs/decisions/0130.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of the parameters in malloc.h
LARGEST_KEPT = 2**29  # bytes of a block; larger ones would leave gaps that no other block fills
# What glibc itself reaches, at most, in a program that frees large blocks. The initial values cannot be restored.
_USUAL = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}


def keep_freed_memory() -> None:
    """Keep freed memory in the process, until `return_freed_memory` is called; without glibc, nothing changes."""
    _set({_MMAP_THRESHOLD: LARGEST_KEPT, _TRIM_THRESHOLD: 2**31 - 1})


def return_freed_memory() -> None:
    """Return freed memory to the system, now and from now on."""
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
