"""The command line, called in the process of the tests."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from pipeline import __main__ as pcace
from pipeline import sweep_start

# Called with the arguments of a command; returns its exit code and the lines of stdout and of stderr.
Cli = Callable[..., tuple[int, list[str], list[str]]]


@contextmanager
def command_line(outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Within the context, call commands as ``python -m pipeline`` does; they write to `outputs`.

    Hydra and logging keep global state, which is reset before each call and restored at the end.
    """
    monkeypatch.setenv("PCACE_OUTPUTS", str(outputs))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def call(*arguments: str, main: Callable[[], None] = pcace.main) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
        monkeypatch.setattr(sweep_start, "_started", None)
        GlobalHydra.instance().clear()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    try:
        yield call
    finally:
        for handler in root.handlers[:]:
            if handler not in handlers:
                handler.close()
                root.removeHandler(handler)
        root.handlers[:], root.level = handlers, level
