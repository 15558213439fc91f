"""Time and memory of a ranking as the number of images grows, and of two layers with many images.

The network is one convolution with random weights, so that the time is not that of the forward passes. The images are
files of noise in the size of the maps. Everything runs as on the command line, from the files to the ranking with its
evidence, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axis import Axis
from matplotlib.ticker import NullFormatter
from PIL import Image
from torch import nn

from benchmarks.timing import RESULTS, report
from pipeline.config import compose_settings
from pipeline.resolve import resolve
from pipeline.runner import STAGES, Execution, store_of

RANKING = ("download", "activate", "reduce", "score", "rank")
# Name, number of channels, height and width of the maps, numbers of images.
GROWTH = (
    ("4 x 56 x 56", 4, 56, (1_250, 2_500, 5_000, 10_000)),
    ("32 x 7 x 7", 32, 7, (6_250, 12_500, 25_000, 50_000)),
)
SIZES = (("10,000 x (64 x 56 x 56)", 64, 56, 10_000), ("50,000 x (512 x 7 x 7)", 512, 7, 50_000))


class Convolution(nn.Module):
    """One convolution, whose maps have the size of the images, and a class score from them."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, n_channels, 3, padding=1), nn.Linear(n_channels, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return two scores."""
        return self.fc(self.conv(images).relu().mean(dim=(2, 3)))


def write_images(folder: Path, n_images: int, side: int) -> None:
    """Write PNG files of smooth noise of different contrast and brightness."""
    rng = np.random.default_rng(0)
    (folder / "scene").mkdir(parents=True)
    for index in range(n_images):
        coarse = Image.fromarray(rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float64)
        pixels = rng.uniform(20, 200) + (smooth - 128) * rng.uniform(0.1, 1) + rng.normal(size=smooth.shape) * 10
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "scene" / f"{index:06d}.png")


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Measure the largest anonymous memory of this process in MiB, which does not include pages of mapped files."""
    found, is_done = [0.0], threading.Event()

    def sample() -> None:
        while not is_done.wait(0.02):
            status = Path("/proc/self/status").read_text(encoding="ascii")
            found[0] = max(found[0], int(status.partition("RssAnon:")[2].split()[0]) / 1024)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        is_done.set()
        thread.join()


def measure(n_channels: int, side: int, n_images: int, folder: str, *overrides: str) -> dict[str, Any]:
    """Rank the channels in this process; return the seconds and the CPU seconds of the stages, and the peak memory."""
    settings = resolve(compose_settings([
        "model.factory=benchmarks.many_images:Convolution", f"+model.arguments.n_channels={n_channels}",
        "model.weights=random", f"model.input_size=[3,{side},{side}]", "model.transform.kind=none",
        "model.transform.mean=[0.5,0.5,0.5]", "model.transform.std=[0.3,0.3,0.3]", "model.class_names=[scene,other]",
        "layer=conv", "data=folder", f"data.root={folder}/images", "class_name=scene", f"n_images={n_images}",
        f"paths.outputs={folder}/outputs", "tracking.enabled=false", *overrides,
    ]))  # fmt: skip
    found: dict[str, Any] = {}
    with store_of(settings) as store:
        execution = Execution(settings, store)
        for stage in STAGES:
            if stage.name not in RANKING:
                continue
            start, cpu = time.perf_counter(), time.process_time()
            with peak_memory() as peak:
                report = execution.obtain(stage)
                description = report.artifacts[stage.artifact].description
            found[stage.name] = {
                "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "mib": peak[0],
                "description": description,
            }  # fmt: skip
    return found


def in_own_process(n_channels: int, side: int, n_images: int, *overrides: str) -> dict[str, Any]:
    """Return the result of `measure` in a new process, whose files are removed afterwards."""
    with TemporaryDirectory() as folder:
        write_images(Path(folder) / "images", n_images, side)
        arguments = [str(n_channels), str(side), str(n_images), folder, *overrides]
        command = [sys.executable, "-m", "benchmarks.many_images", "measure", *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table() -> list[list[str]]:
    """Measure everything, draw the growth, and return the rows of the table."""
    rows, figure = [], plt.figure(figsize=(9, 3.5), layout="constrained")
    by_time, by_memory = figure.subplots(1, 2)
    for name, n_channels, side, numbers in GROWTH:
        found = [in_own_process(n_channels, side, n_images) for n_images in numbers]
        rows += [_row(f"{n_images:,} x ({name})", each) for n_images, each in zip(numbers, found, strict=True)]
        cpu = [sum(stage["cpu"] for stage in each.values()) for each in found]
        slope = np.polyfit(np.log(numbers), np.log(cpu), 1)[0]
        by_time.plot(numbers, cpu, marker="o", label=f"{name}: exponent {slope:.2f}")
        by_memory.plot(
            numbers, [max(stage["mib"] for stage in each.values()) for each in found], marker="o", label=name
        )
    for axes, label in ((by_time, "CPU seconds, download to rank"), (by_memory, "peak anonymous memory, MiB")):
        axes.set(xlabel="images", ylabel=label, xscale="log")
        _set_ticks(axes.xaxis, (1_250, 5_000, 12_500, 50_000))
        axes.legend()
    by_time.set_yscale("log")
    _set_ticks(by_time.yaxis, (5, 10, 20, 50))
    by_memory.set_ylim(bottom=0)
    figure.savefig(RESULTS / "many_images.png", dpi=120)
    rows += [_row(name, in_own_process(n_channels, side, n_images)) for name, n_channels, side, n_images in SIZES]
    return rows


def _set_ticks(axis: Axis, values: Sequence[int]) -> None:
    """Label these values of a logarithmic axis, and no others."""
    axis.set_ticks(values, [f"{value:,}" for value in values])
    axis.set_minor_formatter(NullFormatter())


def _row(name: str, found: dict[str, Any]) -> list[str]:
    seconds = [f"{found[stage]['seconds']:.0f} ({found[stage]['cpu']:.0f})" for stage in RANKING]
    return [name, *seconds, f"{max(each['mib'] for each in found.values()):.0f}"]


def main() -> None:
    """Measure, print the table and write it, with the figure of the growth."""
    notes = (
        "Seconds, and CPU seconds in parentheses. 3 components; evidence: 200 permutations, 200 halves, 5 folds. "
        "Memory: RssAnon in /proc/self/status every 20 ms, which does not include the pages of mapped files."
    )
    headings = ["images x (channels x height x width)", *RANKING, "peak MiB"]
    report("many_images", "From image files to a ranking with evidence", headings, table(), notes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        n_channels, side, n_images = map(int, sys.argv[2:5])
        print(json.dumps(measure(n_channels, side, n_images, *sys.argv[5:])))
    else:
        main()
