"""Warnings of Pillow while images are decoded, also in several threads at a time."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

# Only warnings in Pillow and its caller, because other threads run at the same time.
_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\b|pipeline\.decoding\b"), 0)
_lock = threading.Lock()
_n_decoding = 0


@contextmanager
def ignored_warnings() -> Iterator[None]:
    """Inside the context, Pillow's warnings are ignored: about unusual EXIF data, palettes and the number of pixels.

    `warnings.catch_warnings` restores all filters of the process as they were when it was entered, so that threads
    which decode at the same time would leave each other's filters behind.
    """
    global _n_decoding
    with _lock:
        if _n_decoding == 0:
            _filters().insert(0, _IGNORED)
        _n_decoding += 1
    try:
        yield
    finally:
        with _lock:
            _n_decoding -= 1
            if _n_decoding == 0:
                _filters()[:] = [each for each in _filters() if each != _IGNORED]


def _filters() -> list[tuple[Any, ...]]:
    """Return the filters of the process, in order of precedence."""
    return cast("list[tuple[Any, ...]]", warnings.filters)
