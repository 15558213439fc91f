"""Modules of a user, written and imported by a test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


class UserModules:
    """Writes modules into a folder from which they are imported, and forgets those that were imported before.

    Parameters
    ----------
    monkeypatch : MonkeyPatch
        Restores the search path of Python at the end of the test.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        # Python would take a module from its bytecode if it was edited within one second and has the same size.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(self, folder: Path, files: Mapping[str, str]) -> None:
        """Write files, by their paths in the folder, and make the modules importable as in a new process."""
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        for name in {Path(file).parts[0].removesuffix(".py") for file in files}:
            self.forget(name)
        self._monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()

    @staticmethod
    def forget(name: str) -> None:
        """Remove a package from the modules that are imported."""
        for module in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
            del sys.modules[module]
