"""Computations and drawings that may fail without failing the whole: each failure becomes a note."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import InputError, StorageError
from pipeline.figures.labels import printable

T = TypeVar("T")

MAX_REASON = 200  # number of characters


class Attempts:
    """Computations that may fail without failing the stage.

    Attributes
    ----------
    notes : list of str
        A note for each computation that failed.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def result(self, failure: str, compute: Callable[[], T]) -> T | None:
        """Return the result of `compute`, or None with a note that begins with `failure` if it raises an exception.

        Raises
        ------
        InputError
            If the settings name a channel or an image that does not exist.
        StorageError
            If files cannot be read or written.
        """
        try:
            return compute()
        except (InputError, StorageError):
            raise
        except Exception as error:
            self.notes.append(f"{failure} ({_reason(error)})")
            return None


def _reason(error: Exception) -> str:
    """Return the type of an exception and the first line of its message, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = printable(lines[0]).rstrip(".") if lines else ""
    if len(message) > MAX_REASON:
        message = message[: MAX_REASON - 1] + "…"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
