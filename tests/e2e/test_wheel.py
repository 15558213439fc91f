"""The wheel, installed in a new environment and run in another folder than the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.project import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("pcace-*.whl")
    return path


def test_the_wheel_has_the_package_the_configuration_and_the_weights_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "pipeline/conf/config.yaml" in names
    assert "pipeline/data/digits_cnn.safetensors" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"pcace", "pipeline"}
    assert "pcace/py.typed" in names
    assert not [name for name in names if {"tests", "outputs"} & set(name.split("/"))]


def test_the_files_that_the_dockerfile_copies_are_enough_for_the_wheel(wheel: Path, tmp_path: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert {"pcace", "pipeline", "conf", "pyproject.toml"} <= set(names)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert [name for name in names if f"!{name}" not in ignored] == []
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (path,) = (tmp_path / "dist").glob("pcace-*.whl")

    def sources(of: Path) -> set[str]:
        return {name for name in zipfile.ZipFile(of).namelist() if "__pycache__" not in name}

    assert sources(path) == sources(wheel)


def test_the_default_settings_run_from_an_installed_wheel_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    # The dependencies are those of this environment. Python does not read .pth files in a folder that a .pth file adds,
    # so the editable installation of the checkout is not found.
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    where = [str(python), "-c", "import pipeline; print(pipeline.__file__)"]
    found = subprocess.run(where, cwd=elsewhere, check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(environment))

    command = [str(environment / "bin" / "pcace"), "hydra.run.dir=run"]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Which channels of conv3 (digits_cnn) matter for class 5? 150 images, 3 components")
    table = pd.read_csv(elsewhere / "run" / "ranking.csv")
    assert sorted(table.channel) == list(range(64))
    assert table.score.is_monotonic_decreasing
    assert len(list((elsewhere / "run" / "figures").glob("*.png"))) == 11
    assert (elsewhere / "run" / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert (elsewhere / "outputs" / "mlflow.db").exists()
