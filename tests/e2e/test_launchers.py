"""The same sweep with every launcher, on real clusters of one machine: the rankings are equal to the byte."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import clusters
from tests.helpers.project import ROOT, tool_is_missing
from tests.helpers.settings import SMALL

LAYERS = ("conv1", "relu1", "conv2")  # more jobs than a machine with two cores runs at once
FEW = ("score.permutations=20", "score.bootstrap=20", "ablate.n_draws=2")
SWEEP = [*SMALL[1:], *FEW, f"layer={','.join(LAYERS)}", "--multirun"]


def sweep(folder: Path, *overrides: str, environment: dict[str, str] | None = None) -> dict[str, bytes]:
    """Sweep the layers in `folder`; return each layer's ranking."""
    outputs = folder / "outputs"
    command = [sys.executable, "-m", "pipeline", *SWEEP, f"paths.outputs={outputs}", *overrides]
    environment = {**(environment or os.environ), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (swept,) = (outputs / "sweeps").iterdir()
    summary = pd.read_csv(swept / "summary.csv")
    assert summary.status.tolist() == ["finished"] * len(LAYERS)
    assert [question.removeprefix("layer=") for question in summary.question] == list(LAYERS)
    return {layer: (swept / str(job) / "ranking.csv").read_bytes() for job, layer in enumerate(LAYERS)}


@pytest.fixture(scope="module")
def by_basic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The rankings with the basic launcher, which runs one job after the other."""
    rankings = sweep(tmp_path_factory.mktemp("basic"))
    assert len(set(rankings.values())) == len(LAYERS)
    return rankings


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_processes_on_this_machine(tmp_path: Path, by_basic: dict[str, bytes], launcher: str) -> None:
    plugin = launcher.split("_")[0]
    if importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
        tool_is_missing(f"hydra-{plugin}-launcher", "pip install 'pcace[joblib,slurm]'")
    assert sweep(tmp_path, f"hydra/launcher={launcher}") == by_basic


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons can only be started by root")
    if not clusters.has_slurm():
        tool_is_missing("SLURM", "apt-get install slurmctld slurmd slurm-client munge")
    with clusters.slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_slurm(tmp_path: Path, by_basic: dict[str, bytes], slurm: dict[str, str]) -> None:
    small = ("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")
    assert sweep(tmp_path, "hydra/launcher=submitit_slurm", *small, environment=slurm) == by_basic


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
        tool_is_missing("hydra-ray-launcher", "pip install --no-deps hydra-ray-launcher")
    with clusters.ray(tmp_path_factory.mktemp("r")) as cluster:
        yield cluster.environment


def test_ray(tmp_path: Path, by_basic: dict[str, bytes], ray: dict[str, str]) -> None:
    # The cluster was started before and elsewhere, so its workers have another working folder and environment.
    address = "hydra.launcher.ray.init.address=auto"
    assert sweep(tmp_path, "hydra/launcher=ray", address, environment=ray) == by_basic
