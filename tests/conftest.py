"""Fixtures of all tests, the markers of each test, and what is done once before the tests run.

Constants and functions that tests import are in `tests.helpers`; nothing imports this file.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from PIL import Image

from pipeline.config import compose_settings
from pipeline.settings import Settings
from tests.helpers.data import benchmark_data
from tests.helpers.settings import SMALL, Compose
from tests.helpers.tiers import add_markers

# While tests are imported, hardly any object becomes garbage. `pytest_collection_finish` enables the collector again.
gc.disable()

# A shared machine may be slow for a while: no example of a property test fails because of its duration.
hypothesis_settings.register_profile("pcace", deadline=None)
hypothesis_settings.load_profile("pcace")


def pytest_configure(config: pytest.Config) -> None:
    """Before pytest-xdist starts its workers: divide the cores among them, and compile the solver once.

    By default, each worker would use all cores, and the threads of PyTorch would wait for one another in busy loops.
    Numbers of threads that tests and settings state themselves are not changed.
    """
    n_workers = config.getoption("numprocesses", None)
    is_controller = n_workers and not hasattr(config, "workerinput")
    if is_controller and not config.option.collectonly:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // n_workers)))
        from tests.helpers.compiled import compile_solver

        compile_solver()


@pytest.hookimpl(tryfirst=True)  # before the option -m selects tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier and the tools that it needs, and sort the files for pytest-xdist."""
    for item in items:
        add_markers(item)
    # Files with long tests come first, so that all workers end at about the same time.
    has_long = {item.path for item in items if not item.get_closest_marker("unit")}
    items.sort(key=lambda item: item.path not in has_long)


def pytest_collection_finish() -> None:
    """Exclude the half a million objects of the imported modules from all collections of garbage.

    Searching them takes half a second each time, and would take a fifth of the time of the tests that run the pipeline.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def photographs() -> Path:
    """Folder of the CIFAR-10 photographs, with the subfolders ``cat``, ``dog`` and ``ship``."""
    return benchmark_data("cifar10")


@pytest.fixture(scope="session")
def resnet20_weights() -> Path:
    """File with the weights of the pretrained CIFAR-10 ResNet-20."""
    return benchmark_data("weights/resnet20-12fca82f.th")


@pytest.fixture(scope="session")
def panoramas() -> Path:
    """Table with the ids and locations of 300 Street View panoramas in London."""
    return benchmark_data("london-kdd-examples-slevel.csv")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: creating its tables takes seconds, copying it does not."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracked(empty_database: Path, tmp_path: Path) -> Path:
    """The test's outputs folder, which already has an MLflow database."""
    (tmp_path / "outputs").mkdir()
    return Path(shutil.copy(empty_database, tmp_path / "outputs")).parent


@pytest.fixture
def compose(tmp_path: Path) -> Compose:
    """A function that composes the small settings with overrides; outputs go below the test's own folder."""

    def _compose(*overrides: str) -> Settings:
        # Only the settings of ACE have n_jobs.
        small = [
            each
            for each in SMALL
            if not (each == "score.n_jobs=1" and any(text.startswith("score=") for text in overrides))
        ]
        return compose_settings([f"paths.outputs={tmp_path / 'outputs'}", *small, *overrides])

    return _compose


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the test, files of figures are pictures of one pixel: drawing figures is half of the time of a small run.

    For tests that run the pipeline several times in their own process and do not read its figures.
    """
    buffer = BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    monkeypatch.setattr("pipeline.figures.style.render_png", lambda figure, dpi: buffer.getvalue())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 7 MiB, mounted below the folder of the test. It has room for three small runs and a database."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root, because it mounts a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
