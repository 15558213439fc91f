"""How the user is told that functions are being compiled. It does not import numba, which takes a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ANNOUNCEMENT = "Compiling numerical functions: up to 15 seconds, once on this machine."


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


_say: Callable[[str], None] = _to_stderr


def announce() -> None:
    """Announce that functions are being compiled."""
    _say(ANNOUNCEMENT)


@contextmanager
def announced_by(say: Callable[[str], None]) -> Iterator[None]:
    """Within the context, announce compilation by calling `say` instead of printing to stderr."""
    global _say
    before, _say = _say, say
    try:
        yield
    finally:
        _say = before
