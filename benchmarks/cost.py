"""Predicted and measured cost of some questions: time and memory of each stage.

The times are those of the CPU (user and system) with one thread, so that other processes on the machine hardly matter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.timing import report
from pipeline.config import compose_settings
from pipeline.networks import timing
from pipeline.networks.remembered import remembered
from pipeline.observer import Observer, StageReport
from pipeline.plan import predicted
from pipeline.resolve import resolve
from pipeline.runner import run
from pipeline.stages.stage import Stage

DATA = Path(os.environ.get("PCACE_TEST_DATA", "../shared/data"))
CHURCH = ("data=folder", f"data.root={DATA / 'imagenette'}", "class_name=n03028079", "target_class=497", "n_images=100")
QUESTIONS = {
    "digits_cnn conv3, 150 images": ("layer=conv3",),
    "ResNet-20 layer3.2.conv2, 300 images": (
        "experiment=cifar10_resnet20", f"data.root={DATA / 'cifar10'}",
        f"model.checkpoint={DATA / 'weights' / 'resnet20-12fca82f.th'}",
    ),
    "EfficientNet-Lite0 _blocks.15, 100 images": (
        "model=efficientnet_lite0", *CHURCH, "layer=_blocks.15", "ablate.budget_tflop=1", "visualize.maximize=never",
    ),
    "ResNet-18 layer4.1.conv2, 100 images": (
        "model=resnet18", "model.weights=random", *CHURCH, "layer=layer4.1.conv2", "ablate.budget_tflop=1",
        "visualize.maximize=never", "n_components=10",
    ),
}  # fmt: skip
MIB = 2**20


class Measuring(Observer):
    """Measures the CPU time and the largest memory of the process in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, float] = {}
        self._start = time.process_time()

    def stage_started(self, stage: Stage) -> Callable[[int, int], None] | None:  # type: ignore[type-arg]
        """Note the time, and forget the largest memory."""
        self._start = time.process_time()
        Path("/proc/self/clear_refs").write_text("5")  # resets the largest memory
        return None

    def stage_finished(self, report: StageReport) -> None:
        """Note the time and the largest memory of the stage."""
        name = report.stage.name
        self.seconds[name] = time.process_time() - self._start
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        self.memory[name] = 1024 * float(line.split()[1])


def rows_of(name: str, overrides: Sequence[str]) -> list[list[str]]:
    """Return the rows of a question: a row for each stage, and one for all of them."""
    with TemporaryDirectory() as outputs, remembered():
        settings = compose_settings(
            [*overrides, f"paths.outputs={outputs}", "tracking.enabled=false", "score.n_jobs=1"]
        )
        costs, _, _ = predicted(resolve(settings))
        measuring = Measuring()
        run(settings, Path(outputs) / "run", [measuring])
    rows = []
    for cost in costs:
        seconds, memory = measuring.seconds[cost.stage], measuring.memory[cost.stage]
        rows.append([
            name, cost.stage, f"{cost.seconds:.1f}", f"{seconds:.1f}", f"{cost.seconds / seconds:.2f}",
            f"{cost.memory / MIB:.0f}", f"{memory / MIB:.0f}", f"{cost.memory / memory:.2f}",
        ])  # fmt: skip
    first, second = sum(cost.seconds for cost in costs), sum(measuring.seconds.values())
    least, most = max(cost.memory for cost in costs), max(measuring.memory.values())
    rows.append([
        name, "all", f"{first:.1f}", f"{second:.1f}", f"{first / second:.2f}", f"{least / MIB:.0f}",
        f"{most / MIB:.0f}", f"{least / most:.2f}",
    ])  # fmt: skip
    return rows


def main() -> None:
    """Print and record the predictions, the measurements and their ratios."""
    torch.set_num_threads(1)
    clock, timing.clock = timing.clock, time.process_time
    try:
        with TemporaryDirectory() as outputs:  # imports and compilation
            small = ("tracking.enabled=false", "layer=conv1", "n_images=20", f"paths.outputs={outputs}")
            run(compose_settings(small), Path(outputs) / "run")
        rows = [row for name, overrides in QUESTIONS.items() for row in rows_of(name, overrides)]
    finally:
        timing.clock = clock
    ratios = np.array([float(row[4]) for row in rows if row[1] == "all"])
    report(
        "cost", "Predicted and measured cost of questions, one thread",
        ("question", "stage", "predicted s", "measured s", "ratio", "predicted MiB", "measured MiB", "ratio of memory"),
        rows,
        f"CPU time. Predicted times of questions are {ratios.min():.2f} to {ratios.max():.2f} times the measured ones.",
    )  # fmt: skip
