from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pipeline
from pipeline.environment import OPTIONAL_PACKAGES, PACKAGES, environment, git_state, packages

PROJECT = tomllib.loads((Path(pipeline.__file__).parent.parent / "pyproject.toml").read_text())["project"]
# Dependencies that cannot change a result, and why.
WITHOUT_EFFECT = {
    "filelock": "locks",
    "httpx": "downloads images, whose bytes are identified by their digest",
    "hydra-core": "composes the settings, which are logged with the run",
    "jinja2": "renders the report",
    "joblib": "runs the solver of the `ace` package in several processes",
    "mlflow": "logs runs",
    "omegaconf": "composes the settings, which are logged with the run",
    "platformdirs": "finds the folder for compiled code",
    "pydantic": "validates the settings, which are logged with the run",
    "rich": "prints to the terminal",
    "tenacity": "repeats downloads",
    "threadpoolctl": "sets the number of threads, which is logged",
}
EXTRAS_WITHOUT_EFFECT = {"dvc", "joblib", "ray", "slurm"}  # they start runs
EXTRAS_FOR_DEVELOPMENT = {"docs", "test", "lint", "notebooks", "dev"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~ ;\[]", requirement)[0] for requirement in requirements}


def test_every_dependency_that_can_change_a_result_is_listed() -> None:
    dependencies = names(PROJECT["dependencies"])
    assert set(PACKAGES) == dependencies - set(WITHOUT_EFFECT)
    assert set(WITHOUT_EFFECT) <= dependencies


def test_every_optional_dependency_that_can_change_a_result_is_listed() -> None:
    extras = PROJECT["optional-dependencies"]
    assert set(extras) > EXTRAS_WITHOUT_EFFECT | EXTRAS_FOR_DEVELOPMENT
    found = [names(extras[extra]) for extra in set(extras) - EXTRAS_WITHOUT_EFFECT - EXTRAS_FOR_DEVELOPMENT]
    assert set().union(*found) == set(OPTIONAL_PACKAGES)


def test_the_environment_has_the_version_of_each_package_and_the_machine() -> None:
    found = environment()
    assert {*PACKAGES, "pcace", "python", "machine", "system", "cpu", "n_cpus", "threads"} <= set(found)
    assert found["numpy"] == packages()["numpy"] == np.__version__
    assert int(found["n_cpus"]) >= 1
    assert all(found.values())


def test_names_and_versions_are_those_of_the_parsed_metadata() -> None:
    parsed = {each.metadata["Name"]: each.version for each in distributions()}
    assert packages() == parsed
    assert list(packages()) == sorted(parsed, key=str.lower)


def test_an_empty_folder_that_an_interrupted_removal_has_left_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = packages()
    (tmp_path / "~orch-2.6.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert packages() == known


def test_an_optional_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.environment.OPTIONAL_PACKAGES", ("numpy", "no-such-package"))
    assert "no-such-package" not in environment()


def test_the_gpu_is_listed_only_if_torch_uses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "NVIDIA A100")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="12.4")))
    assert environment()["gpu"] == "NVIDIA A100, CUDA 12.4"
    cuda.is_available = lambda: False
    assert "gpu" not in environment()
    monkeypatch.delitem(sys.modules, "torch")
    assert "gpu" not in environment()


def test_the_state_of_git_is_that_of_the_checkout_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = git_state()
    if state:  # a checkout, not an archive of the code
        assert re.fullmatch(r"[0-9a-f]{40}", state["git_commit"])
        assert state["git_dirty"] in ("true", "false")
    monkeypatch.setattr("pipeline.environment.pipeline.__file__", str(tmp_path / "pipeline" / "__init__.py"))
    assert git_state() == {}
