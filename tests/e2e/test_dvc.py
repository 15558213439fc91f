"""The pipeline run by the commands of DVC, in a separate checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from pipeline.runner import run
from tests.helpers.project import ROOT
from tests.helpers.settings import SMALL, Compose
from tests.helpers.tracking import logged_runs

PARTS = ("conf", "pipeline", "data/digits_cnn.safetensors", "outputs/README.md", ".dvc/config", ".dvc/.gitignore",
         ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml", "pyproject.toml")  # fmt: skip
QUEUED = ("penalised", "excess")  # settings of the last stages: DVC takes the results of the others from its cache


class Checkout:
    """A new checkout, in which commands run as in an activated environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            source, target = ROOT / part, folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        self.edit(*(each for each in SMALL if not each.startswith("tracking.")))
        self("git", "init", "-q")
        self.commit()

    def __call__(self, *command: str) -> str:
        hidden = ("PYTHONPATH", "PCACE_OUTPUTS", "PYTHONDONTWRITEBYTECODE")  # about forty processes import the checkout
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        for who in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{who}_NAME": "test", f"GIT_{who}_EMAIL": "test@example.org"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def edit(self, *overrides: str) -> None:
        params = OmegaConf.load(self.folder / "params.yaml")
        OmegaConf.save(OmegaConf.merge(params, OmegaConf.from_dotlist(list(overrides))), self.folder / "params.yaml")

    def commit(self) -> None:
        self("git", "add", "-A")
        self("git", "commit", "-q", "-m", "state")

    def repro(self) -> list[str]:
        return re.findall(r"^Running stage '(\w+)'", self("dvc", "repro"), flags=re.MULTILINE)


def logged(checkout: Checkout) -> dict[str, Path]:
    """The logged rankings, by the name that DVC gives the run."""
    client = MlflowClient(f"sqlite:///{checkout.folder / 'outputs' / 'mlflow.db'}")
    runs = logged_runs(client, order_by=["start_time"])
    assert all(run.info.status == "FINISHED" for run in runs)
    return {run.data.tags["dvc"]: Path(client.download_artifacts(run.info.run_id, "ranking.csv")) for run in runs}


def by_runner(compose: Compose, folder: Path, *overrides: str) -> bytes:
    """The ranking of a run without DVC."""
    run(compose(*overrides), folder / "by_runner", [])
    return (folder / "by_runner" / "ranking.csv").read_bytes()


def test_dvc_runs_only_the_stages_that_depend_on_a_change_and_runs_queued_experiments(
    tmp_path: Path, compose: Compose
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    checkout = Checkout(tmp_path / "checkout")
    weights = tmp_path / "outside.safetensors"  # the network of the other runs, in a file outside of the checkout
    shutil.copy(ROOT / "data" / "digits_cnn.safetensors", weights)
    checkout.edit(f"model.checkpoint={weights}")
    downstream = ["reduce", "score", "rank", "evaluate", "visualize"]
    assert sorted(checkout.repro()) == sorted(["compose", "identify", "download", "activate", "ablate", *downstream])
    ranking = checkout.folder / "outputs" / "dvc" / "rank" / "ranking.csv"
    assert ranking.read_bytes() == by_runner(compose, tmp_path)
    trained = load_file(weights)
    save_file({**trained, "conv1.bias": trained["conv1.bias"] + 0.5}, weights)
    checkout("dvc", "repro", "identify")
    stale = set(json.loads(checkout("dvc", "status", "--json"))) - {"identify"}  # which always counts as changed
    assert stale == {"activate", "ablate", *downstream}
    save_file(trained, weights)
    assert checkout.repro() == ["identify"]
    checkout.commit()
    checkout.edit("n_components=2")
    assert checkout.repro() == ["compose", "identify", *downstream]
    assert list(logged(checkout)) == ["repro"]
    assert "score.best" in checkout("dvc", "metrics", "diff")
    assert "n_components" in checkout("dvc", "params", "diff")
    checkout("dvc", "plots", "show")
    page = (checkout.folder / "dvc_plots" / "index.html").read_text()
    assert "score by rank" in page
    assert "outputs_dvc_rank_ranking_csv" in page
    shutil.rmtree(checkout.folder / "dvc_plots")
    checkout("git", "checkout", "-q", ".")

    overrides = [*SMALL[2:], "class_name='8'", "layer=conv2", f"rank.by={','.join(QUEUED)}", "tracking.enabled=true"]
    checkout("dvc", "exp", "run", "--queue", *(part for each in overrides for part in ("-S", each)))
    # One worker, because the first of several to end removes what the others need to end (dvc-task 0.40).
    checkout("dvc", "exp", "run", "--run-all")
    found = {name: path.read_bytes() for name, path in logged(checkout).items() if name != "repro"}
    assert set(found.values()) == {by_runner(compose, tmp_path, "layer=conv2", f"rank.by={by}") for by in QUEUED}
    assert len(set(found.values())) == len(QUEUED)
    shown = checkout("dvc", "exp", "show", "--csv")
    assert all(name in shown for name in found)
    assert shown.count("Success") == len(found) == len(QUEUED)
