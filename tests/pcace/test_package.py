"""The package `pcace`: what it exports, what importing it costs, and the examples of its documentation."""

from __future__ import annotations

import doctest
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pcace
from tests.helpers.project import ROOT

HEAVY = {
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "matplotlib",
    "hydra",
    "mlflow",
    "numba",
    "sklearn",
    "scipy",
    "rich",
}
DOCUMENTED = [name for name in pcace.__all__ if name not in ("__version__", "PipelineError")]


def loaded_after(code: str) -> set[str]:
    """Return the names of the top-level packages that are loaded after `code` in a new process."""
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_no_large_library() -> None:
    assert loaded_after("import pcace; dir(pcace)") & HEAVY == set()
    assert "torch" in loaded_after("import pcace; pcace.rank")


def test_the_names_that_are_listed_exist() -> None:
    assert sorted(pcace.__all__) == pcace.__all__
    assert dir(pcace) == pcace.__all__
    assert all(getattr(pcace, name) is not None for name in pcace.__all__)
    with pytest.raises(AttributeError, match="module 'pcace' has no attribute 'rang'"):
        pcace.rang  # noqa: B018


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    value = getattr(pcace, name)
    module = importlib.import_module(value.__module__)
    examples = doctest.DocTestFinder(recurse=False).find(value, name, module=module, globs={})
    assert [each for example in examples for each in example.examples], f"{name} has no example"
    torch.manual_seed(0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in examples:
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


def test_another_package_called_pipeline_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("")
    (tmp_path / "pipeline" / "models.py").write_text("name = 'mine'")
    start = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.path.append({str(ROOT)!r})"
    first = f"{start}\nimport pcace; pcace.layers; from pipeline.models import name; print(name, len(sys.path))"
    second = f"{start}\nprint(len(sys.path)); import pipeline, pcace"
    done = [
        subprocess.run([sys.executable, "-c", each], cwd=tmp_path, capture_output=True, text=True, check=False)
        for each in (first, second)
    ]
    assert done[0].returncode == 0
    assert done[0].stdout.split() == ["mine", done[1].stdout.strip()]  # the path is as it was
    assert done[1].returncode == 1
    assert done[1].stderr.splitlines()[-1] == (
        "ImportError: pcace must be imported before another package that is called pipeline, as one of its own is; got "
        f"{tmp_path / 'pipeline' / '__init__.py'}. Import pcace first."
    )
