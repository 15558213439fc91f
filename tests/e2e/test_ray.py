"""Runs on a Ray cluster of three nodes on this machine: workers are lost, nodes join late, a disk is full.

The network of the user (`NETWORK`) waits in every batch until the test allows it, so that every fault happens at the
same place, and logs each batch that it computes.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from pipeline.artifacts.base import own_files
from pipeline.config import compose_settings
from pipeline.resolve import resolve
from pipeline.runner import STAGES, Execution, store_of
from tests.helpers import clusters
from tests.helpers.clusters import wait_until
from tests.helpers.processes import CONTEXT
from tests.helpers.project import tool_is_missing
from tests.helpers.settings import SMALL

NETWORK = """
import os
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent


class Gated(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, x):
        if len(x) == 5 and (HERE / "gate").exists():
            HERE.joinpath(f"waiting-{os.getpid()}").touch()
            while not self.passes():
                time.sleep(0.05)
        if len(x) == 5:
            with open(HERE / "batches.txt", "a") as log:
                log.write(f"{os.getpid()} {x.sum().item():.6f}\\n")
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))

    def passes(self):
        for ticket in HERE.glob("ticket-*"):
            try:
                ticket.unlink()
                return True
            except FileNotFoundError:
                pass
        return not (HERE / "gate").exists()


def build():
    return Gated()
"""
# Four batches, and the checks of the network have other numbers of images.
RUN = (
    *(text for text in SMALL if not text.startswith(("layer", "score"))), "layer=conv", "model.factory=gated:build",
    "model.name=gated", "model.weights=random", "model.batch_size=5", "score.permutations=5", "score.bootstrap=4",
    "score.folds=2", "ablate.n_draws=2",
)  # fmt: skip
RAY = ("engine=ray", "engine.images_per_task=5")
N_BATCHES = 4


def _command(folder: Path, environment: dict[str, str], arguments: list[str]) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    with (folder / "printed.txt").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from pipeline.__main__ import main

    sys.argv = ["pipeline", *arguments]
    main()


class Run:
    """A run in a folder of its own, with the gated network."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self._environment = folder, environment
        self._commands: set[int] = set()
        (folder / "gated.py").write_text(NETWORK)

    def start(self, *overrides: str) -> ForkServerProcess:
        arguments = [*RUN, *RAY, "engine.address=auto", *overrides, f"paths.outputs={self.folder / 'outputs'}"]
        process = CONTEXT.Process(target=_command, args=(self.folder, self._environment, arguments))
        process.start()
        assert process.pid is not None
        self._commands.add(process.pid)
        return process

    def finish(self, process: ForkServerProcess) -> list[str]:
        """Wait for the run, which must succeed; return the lines that it printed."""
        process.join(180)
        lines = self.printed
        assert process.exitcode == 0, lines
        return lines

    @property
    def printed(self) -> list[str]:
        path = self.folder / "printed.txt"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def batches(self) -> list[str]:
        """The batches that workers have computed, by the sum of their images."""
        path = self.folder / "batches.txt"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [batch for process, batch in lines if int(process) not in self._commands]

    @property
    def waiting(self) -> list[int]:
        """The processes that wait at the gate, or have waited."""
        return [int(path.name.removeprefix("waiting-")) for path in self.folder.glob("waiting-*")]

    @property
    def n_parts(self) -> int:
        return len(list(self.folder.glob("outputs/store/tmp/activate-*.parts/maps*[0-9]")))

    def results(self) -> dict[str, bytes]:
        """Return the files of all artifacts except for the figures."""
        folders = [path for path in (self.folder / "outputs" / "store").glob("*/*/") if path.parent.name in NAMES]
        return {
            f"{path.parent.name}/{name}": (path / name).read_bytes() for path in folders for name in own_files(path)
        }


NAMES = [stage.name for stage in STAGES[:-1]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.RayCluster]:
    if importlib.util.find_spec("ray") is None:
        tool_is_missing("ray", "pip install 'pcace[ray]'")
    with clusters.ray(tmp_path_factory.mktemp("r"), n_cpus=1) as cluster, ExitStack() as nodes:
        for _ in range(2):
            nodes.enter_context(cluster.node(n_cpus=1))
        yield cluster


@pytest.fixture
def started(tmp_path: Path, cluster: clusters.RayCluster) -> Run:
    return Run(tmp_path, cluster.environment)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of a run without Ray, by this process."""
    run = Run(tmp_path_factory.mktemp("local"), {})
    before = Path.cwd()
    os.chdir(run.folder)
    try:
        settings = resolve(compose_settings([*RUN, f"paths.outputs={run.folder / 'outputs'}"]))
        with store_of(settings) as store:
            execution = Execution(settings, store)
            for stage in STAGES[:-1]:
                execution.obtain(stage)
    finally:
        os.chdir(before)
        sys.path.remove(str(run.folder))
    return run.results()


def gate(run: Run) -> Callable[[], None]:
    """Close the gate; return the function that opens it."""
    (run.folder / "gate").touch()
    return (run.folder / "gate").unlink


def test_a_worker_that_is_killed_costs_its_part_and_the_results_are_those_of_a_local_run(
    started: Run, local: dict[str, bytes]
) -> None:
    open_gate = gate(started)
    process = started.start()
    wait_until(lambda: len(started.waiting) == 3, "three workers compute a batch", 120)
    os.kill(started.waiting[0], signal.SIGKILL)
    open_gate()
    lines = started.finish(process)
    (lost,) = [line for line in lines if "was lost" in line]
    assert lost.startswith("  the worker that computed images ")
    assert lost.endswith(
        " of the stage activate was lost (its process ended); another one computes them again (attempt 2 of 4)."
    )
    assert sorted(Counter(started.batches).values()) == [2] * N_BATCHES  # for the maps, and for the ablation
    assert started.results() == local
    assert list((started.folder / "outputs" / "store" / "tmp").iterdir()) == []


def test_a_command_that_is_killed_and_started_again_keeps_the_finished_parts(
    started: Run, local: dict[str, bytes]
) -> None:
    open_gate = gate(started)
    for ticket in range(2):
        (started.folder / f"ticket-{ticket}").touch()
    process = started.start()
    wait_until(lambda: started.n_parts == 2, "two parts are finished", 120)
    process.kill()
    process.join()
    open_gate()
    assert len(started.batches) == 2
    lines = started.finish(started.start())
    assert not any("was lost" in line for line in lines)
    assert sorted(Counter(started.batches).values()) == [2] * N_BATCHES  # for the maps, and for the ablation
    assert started.results() == local


def test_tasks_wait_for_a_node_that_joins_late(
    started: Run, cluster: clusters.RayCluster, local: dict[str, bytes]
) -> None:
    process = started.start("engine.num_cpus=2")
    note = "  no node of the Ray cluster has engine.num_cpus=2, which a task needs; waiting for one."
    wait_until(lambda: note in started.printed, "the run waits for a node", 120)
    with cluster.node(n_cpus=2):
        started.finish(process)
    assert started.results() == local


def test_a_full_disk_on_one_node_is_reported_in_one_line_and_finished_stages_are_kept(
    started: Run, cluster: clusters.RayCluster, local: dict[str, bytes]
) -> None:
    if not clusters.can_mount():
        pytest.skip("needs root, because it mounts a file system")
    (started.folder / "outputs").mkdir()
    with cluster.node(n_cpus=2, full_disk=started.folder / "outputs"):
        process = started.start("engine.num_cpus=2")
        process.join(180)
    assert process.exitcode == 1
    (line,) = [line for line in started.printed if line.startswith("error: ")]
    assert line.startswith("error: the disk must have room for images ")
    assert line.endswith("Free some space, and run again: finished parts and stages are kept.")
    lines = started.finish(started.start())
    assert any(line.startswith("  download ") and line.endswith("from the store") for line in lines)
    assert started.results() == local
