"""Imports without searches for garbage."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from pipeline.imports import import_for_command


def test_modules_of_a_command_are_imported_without_collection_and_excluded_from_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "records_the_collector.py").write_text("import gc\nwas_enabled = gc.isenabled()\n")
    (tmp_path / "fails_when_it_is_imported.py").write_text("raise LookupError\n")
    monkeypatch.syspath_prepend(tmp_path)
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    assert gc.isenabled()
    import_for_command("records_the_collector")
    assert not sys.modules["records_the_collector"].was_enabled
    assert gc.isenabled()
    assert frozen == [True]
    import_for_command("records_the_collector")  # as in the second job of a sweep
    assert frozen == [True]
    with pytest.raises(LookupError):
        import_for_command("fails_when_it_is_imported")
    assert gc.isenabled()
