"""The command ``pcace`` in a project whose own package is called ``pipeline`` as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import pipeline
from pcace_command import FOLDER, prefer_own_package
from tests.helpers.project import ROOT
from tests.helpers.settings import SMALL

NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a package called ``pipeline`` and a factory that imports it."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").touch()
    (tmp_path / "pipeline" / "models.py").write_text(NETWORK)
    (tmp_path / "net.py").write_text("from pipeline.models import Net as build\n")
    return tmp_path


def test_a_network_from_another_package_called_pipeline_is_ranked(project: Path) -> None:
    # Python looks into the working folder first, because of -c, and then into the project.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project), str(ROOT)])}
    overrides = [
        *SMALL, "layer=0", "model=torchvision", "model.name=mine", "model.factory=net:build", "model.weights=random",
        "model.input_size=[1,8,8]", "model.transform.kind=none", "model.transform.mean=[0.0]",
        "model.transform.std=[1.0]", "target_class=8", "score.permutations=0", "score.folds=0", "score.bootstrap=0",
        "ablate.when=never", "hydra.run.dir=run",
    ]  # fmt: skip
    command = [sys.executable, "-c", "from pcace_command import main; main()", *overrides]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    table = pd.read_csv(project / "run" / "ranking.csv")
    assert sorted(table.channel) == list(range(6))
    assert set(table.layer.astype(str)) == {"0"}


def test_other_packages_of_the_same_name_are_searched_last(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "pipeline" / "errors.py").write_text("raise AssertionError('pcace has this module')")
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    assert pipeline._packages_of_the_same_name() == [str(project / "pipeline")]
    prefer_own_package()
    assert sys.path[0] == os.environ["PYTHONPATH"] == str(FOLDER) == str(ROOT)
    assert os.environ["PYTHONSAFEPATH"] == "1"
    (project / "pipeline" / "numerics").mkdir()  # as in a copy of pcace
    assert pipeline._packages_of_the_same_name() == []
