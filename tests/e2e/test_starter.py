"""What ``pcace init`` writes can be run at once."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline import layers, starter
from pipeline.resources import options
from tests.helpers.cli import Cli


def test_the_starter_runs_in_its_folder(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("my ranking", "--dvc", main=starter.main)
    assert (code, err) == (0, [])
    assert out[0] == "Wrote network.py, conf/experiment/mine.yaml, dvc.yaml and 300 images in my ranking/images. Next:"
    assert "  cd 'my ranking'" in out
    assert "  pcace run experiment=mine        ranks the channels of the network's layer conv2" in out
    monkeypatch.chdir(tmp_path / "my ranking")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "network", raising=False)
    # The command of the page and of dvc.yaml, without the figures and the log, which take the most time.
    described = yaml.safe_load(Path("dvc.yaml").read_text())
    stage = described["stages"]["rank"]
    command = stage["cmd"].removeprefix("pcace run ").split()
    less = ("tracking=none", "visualize.maximize=never", "visualize.dpi=50", "ablate.n_draws=2", "score.bootstrap=20")
    code, out, err = cli(*command, *less)
    assert (code, err) == (0, [])
    assert out[0].startswith("Which channels of conv2 (mine) matter for class vertical? 150 images, 3 components")
    table = pd.read_csv("results/ranking.csv")
    assert sorted(table.channel) == list(range(24))
    assert (table.q_value < 0.05).sum() > 12  # the network is trained, and its images differ
    assert all(Path(name).exists() for name in [*stage["deps"], *stage["outs"], *described["plots"][0]])
    monkeypatch.delitem(sys.modules, "network", raising=False)
    code, out, err = cli("experiment=mine", main=layers.main)
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in out[1:4]] == ["conv1", "conv2", "classifier"]
    assert "mine" in options("experiment")


def test_a_starter_replaces_nothing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("network.py").write_text("mine\n")
    code, out, err = cli(main=starter.main)
    assert (code, out) == (1, [])
    assert err == [
        f"error: the folder of the starter must not contain network.py; got {tmp_path}. Choose another folder."
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["network.py"]
    code, _, err = cli("a", "b", main=starter.main)
    assert (code, err) == (1, ["error: init must have at most one folder and --dvc; got a b. See pcace init --help."])


def test_dvc_accepts_the_stage_of_the_starter(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    monkeypatch.chdir(tmp_path)
    assert cli("--dvc", main=starter.main)[0] == 0
    dvc = str(Path(sys.executable).with_name("dvc"))
    for command in (["git", "init", "-q"], [dvc, "init", "-q"]):
        subprocess.run(command, check=True)
    status = subprocess.run([dvc, "status"], check=True, capture_output=True, text=True).stdout
    assert re.findall(r"(\w+):\s+([\w.]+)$", status, re.MULTILINE) == [
        ("modified", "conf"), ("modified", "images"), ("modified", "network.py"), ("deleted", "results")
    ]  # fmt: skip
