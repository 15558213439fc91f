"""The difference between two nested mappings, such as the keys of artifacts or what two machines have installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def changes(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the dotted name of every value that is not the same in two nested mappings, and both values as texts.

    Parameters
    ----------
    old, new : mapping
        The mappings. A key that only one of them has counts as None in the other.
    name : str
        Prefix of the dotted names.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from changes(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif old != new:
        yield name, _shortened(old), _shortened(new)


def _shortened(value: Any) -> str:
    """Return a value as text; of a digest, only the first characters."""
    text = "none" if value is None else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text
