"""The compiled solver from process to process, as a user's machine sees it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.numerics.announcement import ANNOUNCEMENT
from tests.helpers.project import ROOT

SOLVE = """
import numpy as np
from pipeline.numerics import maximal_correlation
x, y = np.random.default_rng(0).normal(size=(2, 40, 2)), np.arange(40.0)
print(repr(maximal_correlation(x, y, smoother="supersmoother")[0]))
"""
# One function of the solver, which is compiled faster than all of it.
SORT = """
import numpy as np
from pipeline.numerics.sorting import stable_order
orders, keys = np.zeros((2, 3), dtype=np.int64), np.zeros((2, 3), dtype=np.uint32)
stable_order(np.array([0.5, 0.1, 0.3]), orders[0], keys[0], keys[1], orders[1])
print(orders[0].tolist())
"""
WHERE = "from pipeline.numerics.compiled import cache_dir; print(cache_dir().name)"


def solve(cache: Path, root: Path = ROOT, code: str = SOLVE, **environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "NUMBA_CACHE_DIR": str(cache), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_the_first_process_compiles_and_says_so_and_the_second_finds_it_in_whatever_copy(tmp_path: Path) -> None:
    cache, copy = tmp_path / "cache", tmp_path / "copy"
    first, said = solve(cache)
    assert said == ANNOUNCEMENT + "\n"
    assert [path.name.partition("-")[0] for path in cache.iterdir()] == ["numba"]
    assert solve(cache) == (first, "")
    shutil.copytree(ROOT / "pipeline", copy / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    assert solve(cache, copy) == (first, "")
    assert solve(cache, copy, WHERE) == solve(cache, code=WHERE)
    with (copy / "pipeline" / "numerics" / "ace.py").open("a") as file:
        file.write("# another state\n")
    assert solve(cache, copy, WHERE) != solve(cache, code=WHERE)


def test_where_the_cache_folder_cannot_be_written_to_the_temporary_one_serves(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    (tmp_path / "tmp").mkdir()
    first, said = solve(tmp_path / "cache", code=SORT, TMPDIR=str(tmp_path / "tmp"))
    assert (first, said) == ("[1, 2, 0]\n", ANNOUNCEMENT + "\n")
    assert solve(tmp_path / "cache", code=SORT, TMPDIR=str(tmp_path / "tmp")) == (first, "")
