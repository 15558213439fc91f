"""What the tests share: composed settings that write below a temporary folder, and the real photographs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from pipeline.config import compose_settings
from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

# Small enough to be quick, real enough to have a best channel: 16 channels, 20 scans, one component, one process.
# Few panels: drawing is what takes longest.
SMALL = (
    "layer=conv1", "class_name=8", "n_images=20", "n_components=1", "score.n_jobs=1", "tracking.enabled=false",
    "visualize.dpi=50", "visualize.n_top=1", "visualize.n_bottom=1", "visualize.n_images=1", "visualize.maximize=never",
)  # fmt: skip

# A shared machine stalls now and then: no example fails for being slow.
hypothesis_settings.register_profile("pcace", deadline=None)
hypothesis_settings.load_profile("pcace")

Compose = Callable[..., Settings]


def in_ci() -> bool:
    """Say whether a missing tool is a failure (CI) or a reason to skip (elsewhere)."""
    return os.environ.get("CI", "").lower() in ("1", "true")


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of CIFAR-10 photographs: cat, dog, ship."""
    folder = SHARED / "data" / "cifar10"
    if not folder.is_dir():
        pytest.skip(f"no photographs: {folder} is not there")
    return folder


@pytest.fixture(scope="session")
def resnet20_weights() -> Path:
    """The pretrained CIFAR-10 ResNet-20."""
    path = SHARED / "data" / "weights" / "resnet20-12fca82f.th"
    if not path.is_file():
        pytest.skip(f"no weights: {path} is not there")
    return path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a run: making them takes seconds, copying them none."""
    from pipeline.tracking.mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracked(empty_database: Path, tmp_path: Path) -> Path:
    """The test's outputs folder, where MLflow's tables wait already."""
    (tmp_path / "outputs").mkdir()
    return Path(shutil.copy(empty_database, tmp_path / "outputs")).parent


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    """Compose the small default with overrides; outputs go below the test's own folder."""

    def _compose(*overrides: str) -> Settings:
        # Only ACE has threads of its own.
        small = [
            each
            for each in SMALL
            if not (each == "score.n_jobs=1" and any(text.startswith("score=") for text in overrides))
        ]
        return compose_settings([f"paths.outputs={tmp_path / 'outputs'}", *small, *overrides])

    return _compose


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 6 MiB, mounted below the test's folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
