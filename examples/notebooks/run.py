"""Run the notebooks in this folder, or those that are named, from beginning to end: ``make notebooks``.

The files are not changed. The first error in a cell ends the run with exit code 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
SECONDS = 300  # for one cell


def run(path: Path) -> nbformat.NotebookNode:
    """Run a notebook in its folder, and return it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=SECONDS, resources=resources).execute()
    return notebook


def main(names: Sequence[str]) -> int:
    """Run notebooks by their paths, all by default; return the exit code."""
    for path in map(Path, names or sorted(map(str, FOLDER.glob("*.ipynb")))):
        start = time.perf_counter()
        try:
            run(path)
        except CellExecutionError as error:
            print(f"{path.name} failed: {error}", file=sys.stderr)
            return 1
        print(f"{path.name:<36} {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
