"""Values of settings without paths, for keys that are the same on every machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.digests import digest_file


def portable(value: Any) -> Any:
    """Return a value of a setting in plain JSON types, without paths; files are represented by their content."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {str(name): portable(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(each) for each in value]
    return value


def _text(text: str) -> Any:
    """Return a text; the content of a file that it names, and nothing but the fact for the absolute path of a folder.

    A single word may be the name of a file by chance, and is kept as well.
    """
    try:
        path = Path(text).expanduser()
        if path.is_file():
            content = {"file": digest_file(path)}
            return content if os.sep in text or path.suffix else {**content, "text": text}
        return {"folder": True} if path.is_absolute() and path.is_dir() else text
    except (OSError, ValueError, RuntimeError):  # too long, or not readable, or with a zero byte, or a ~ of nobody
        return text
