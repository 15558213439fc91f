"""Imports without searches for garbage."""

from __future__ import annotations

import gc
import subprocess
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


def test_no_garbage_is_searched_for_when_the_process_of_a_command_ends() -> None:
    code = """
import atexit, gc
counts = []
atexit.register(lambda: print(gc.get_freeze_count() - counts[0]))  # is called last
from pipeline.imports import import_for_command
import_for_command("pipeline.usage")
counts.append(gc.get_freeze_count())
later = [[] for _ in range(20_000)]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 10_000
