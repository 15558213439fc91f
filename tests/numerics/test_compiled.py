"""The compiled solver from process to process, as a user's machine sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pipeline.numerics.compiled import ANNOUNCEMENT
from tests.conftest import ROOT

SOLVE = """
import numpy as np
from pipeline.numerics import maximal_correlation
print(repr(maximal_correlation(np.random.default_rng(0).normal(size=(2, 40, 2)), np.arange(40.0))[0]))
"""


def solve(cache: Path, **environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", SOLVE],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(cache), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_the_first_process_compiles_and_says_so_and_the_second_finds_it(tmp_path: Path) -> None:
    first, said = solve(tmp_path / "cache")
    assert said == ANNOUNCEMENT + "\n"
    assert [path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir()] == ["numba"]
    assert solve(tmp_path / "cache") == (first, "")


def test_where_the_cache_folder_cannot_be_written_to_the_temporary_one_serves(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    (tmp_path / "tmp").mkdir()
    first, said = solve(tmp_path / "cache", TMPDIR=str(tmp_path / "tmp"))
    assert said == ANNOUNCEMENT + "\n"
    assert solve(tmp_path / "cache", TMPDIR=str(tmp_path / "tmp")) == (first, "")
