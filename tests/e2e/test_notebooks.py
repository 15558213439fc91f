"""The notebooks in the examples run from beginning to end, and are stored without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.project import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def read(path: Path) -> Any:
    nbformat = pytest.importorskip("nbformat", reason="needs the packages of the extra notebooks")
    return nbformat.read(path, as_version=4)


def test_there_are_four_notebooks_without_outputs() -> None:
    assert len(NOTEBOOKS) == 4
    for path in NOTEBOOKS:
        code = [cell for cell in read(path).cells if cell.cell_type == "code"]
        assert [cell for cell in code if cell.outputs or cell.execution_count] == []
        assert path.stat().st_size < 10_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    pytest.importorskip("nbclient", reason="needs the packages of the extra notebooks")
    pytest.importorskip("ipykernel", reason="needs the packages of the extra notebooks")
    from examples.notebooks.run import run

    before = path.read_bytes()
    cells = [cell for cell in run(path).cells if cell.cell_type == "code"]
    assert path.read_bytes() == before
    assert [each for cell in cells for each in cell.outputs if each.output_type == "error"] == []
    warned = [each.text for cell in cells for each in cell.outputs if each.get("name") == "stderr"]
    # timm imports tqdm, which warns if the widgets of notebooks are not installed.
    assert [text for text in warned if "TqdmWarning" not in text] == []
    pages = [each.data["text/html"] for cell in cells for each in cell.outputs if "text/html" in each.get("data", {})]
    pictures = [page for page in pages if '<img alt="' in page and 'src="data:image/png;base64,' in page]
    assert len(pictures) >= 1
    assert not any("<script" in page for page in pages)
