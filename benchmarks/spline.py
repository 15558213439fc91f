"""Time of ACE with splines compared with the supersmoother: scores, permutation null and random halves, in turns.

Both smoothers do the same work through `pipeline.numerics.ace.AceEstimator`, in one process and with two threads. The
choice of the smoothness by cross-validation, which only splines need, is measured separately. In the same run, the
times are compared with R's acepack, which computes scores only, and with the forward pass of a ResNet-18.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torchvision.models import resnet18

from benchmarks.solver import acepack, data
from benchmarks.timing import best_in_turns, report, seconds
from pipeline.numerics.ace import AceEstimator, SplineAce, SupersmootherAce
from pipeline.numerics.spline_smoothness import select_smoothness

N_THREADS, N_ROUNDS = 2, 3
SPLINE, SUPERSMOOTHER = "spline", "supersmoother"
ESTIMATORS: dict[str, AceEstimator] = {
    SPLINE: SplineAce(n_threads=N_THREADS), SUPERSMOOTHER: SupersmootherAce(n_threads=N_THREADS),
}  # fmt: skip
CHOICE = "choice of the smoothness"


@dataclass(frozen=True)
class Size:
    """Size of a layer and of the evidence for it."""

    n_channels: int
    n_images: int
    n_components: int
    n_permutations: int
    n_halves: int

    def __str__(self) -> str:
        """Return the sizes in words."""
        return f"{self.n_channels} channels, {self.n_images} images, {self.n_components} components"


LAYER = Size(n_channels=512, n_images=300, n_components=10, n_permutations=200, n_halves=200)
# The size from which one number at a time is varied, small enough for the largest of them.
BASE = Size(n_channels=64, n_images=300, n_components=10, n_permutations=40, n_halves=20)
VARIED: dict[str, Sequence[int]] = {
    "n_images": (100, 300, 1000), "n_components": (1, 3, 10, 30), "n_channels": (16, 64, 256),
}  # fmt: skip
NAMES = {"n_images": "images", "n_components": "components", "n_channels": "channels"}


def tasks(size: Size) -> dict[str, dict[str, Callable[[], object]]]:
    """Return what is measured, by task and smoother."""
    values, response = data(size.n_channels, size.n_images, size.n_components)
    rng = np.random.default_rng(1)
    orders = np.array([rng.permutation(size.n_images) for _ in range(size.n_permutations)])
    halves = []
    for _ in range(size.n_halves // 2):
        halves += [np.sort(each) for each in np.array_split(rng.permutation(size.n_images), 2)]

    def of_both(work: Callable[[AceEstimator], object]) -> dict[str, Callable[[], object]]:
        return {name: partial(work, estimator) for name, estimator in ESTIMATORS.items()}

    return {
        CHOICE: {SPLINE: lambda: select_smoothness(values, response, seed=0, n_threads=N_THREADS)},
        "scores and transforms": of_both(lambda estimator: estimator.fit(values, response)),
        f"{size.n_permutations} permutations": of_both(lambda estimator: estimator.permuted(values, response, orders)),
        f"{size.n_halves} halves": of_both(lambda estimator: estimator.on_subsets(values, response, halves)),
    }


def measure(size: Size, n_rounds: int) -> dict[str, dict[str, float]]:
    """Return the seconds of each task by each smoother; the smoothers take turns."""
    found = {}
    for task, work in tasks(size).items():
        found[task] = best_in_turns({name: partial(seconds, each) for name, each in work.items()}, n_rounds)
    return found


def forward_pass(n_images: int) -> float:
    """Return the seconds of a forward pass of ResNet-18 over images of 224 x 224 pixels, in batches of 50."""
    torch.set_num_threads(N_THREADS)
    network, batch = resnet18(weights=None).eval(), torch.rand(50, 3, 224, 224)
    with torch.inference_mode():
        return seconds(lambda: [network(batch[: n_images - first]) for first in range(0, n_images, len(batch))])


def acepack_scores(size: Size) -> float:
    """Return the seconds of acepack's scores of all channels, from a part of the channels."""
    n_measured = 16
    values, response = data(n_measured, size.n_images, size.n_components)
    with TemporaryDirectory() as folder:
        return acepack(values, response, Path(folder)) * size.n_channels / n_measured


def compare(name: str, size: Size, n_rounds: int) -> None:
    """Measure all tasks at one size, print the table and write it."""
    measured = measure(size, n_rounds)
    forward = min(forward_pass(size.n_images) for _ in range(n_rounds))
    rows = [[task, *_cells(times), f"{times[SPLINE] / forward:.0%}"] for task, times in measured.items()]
    total = {name: sum(times.get(name, 0.0) for times in measured.values()) for name in ESTIMATORS}
    rows.append(["all", *_cells(total), f"{total[SPLINE] / forward:.0%}"])
    notes = (
        f"Best of {n_rounds} rounds in which the smoothers take turns, {N_THREADS} threads, bass 5. The last column is "
        f"the time with splines as a share of a forward pass of ResNet-18 over {size.n_images} images of 224 x 224 "
        f"pixels, {forward:.1f} s in the same run."
    )
    if shutil.which("Rscript"):
        notes += f" R's acepack takes {acepack_scores(size):.1f} s for the scores and transforms."
    headings = [
        "task", f"{SPLINE}, seconds", f"{SUPERSMOOTHER}, seconds", f"{SUPERSMOOTHER} / {SPLINE}", f"{SPLINE} / forward"
    ]  # fmt: skip
    report(name, f"Splines and the supersmoother: {size}", headings, rows, notes)


def grow(base: Size, varied: dict[str, Sequence[int]], n_rounds: int) -> None:
    """Vary one number at a time, print the times with their growth and write them."""
    rows = []
    for field, counts in varied.items():
        by_count = [measure(Size(**{**vars(base), field: count}), n_rounds) for count in counts]
        for task in by_count[0]:
            for name in by_count[0][task]:
                times = [each[task][name] for each in by_count]
                slope = np.polyfit(np.log(counts), np.log(times), 1)[0]
                of_counts = " ".join(f"{count}: {time:.3f}" for count, time in zip(counts, times, strict=True))
                rows.append([NAMES[field], task, name, of_counts, f"{slope:.2f}"])
    notes = (
        "The exponent is the slope of the logarithm of the time over that of the number. "
        f"Best of {n_rounds} rounds, {N_THREADS} threads."
    )
    headings = ["varied", "task", "smoother", "seconds by number", "exponent"]
    report("spline_growth", f"Growth of the time from {base}", headings, rows, notes)


def _cells(times: dict[str, float]) -> list[str]:
    """Return the times of both smoothers and their ratio."""
    if SUPERSMOOTHER not in times:
        return [f"{times[SPLINE]:.2f}", "-", "-"]
    return [f"{times[SPLINE]:.2f}", f"{times[SUPERSMOOTHER]:.2f}", f"{times[SUPERSMOOTHER] / times[SPLINE]:.1f} x"]


def main() -> None:
    """Compare the smoothers on a whole layer, and measure how their times grow."""
    measure(Size(n_channels=1, n_images=40, n_components=2, n_permutations=9, n_halves=2), 1)  # compiles the solver
    compare("spline", LAYER, N_ROUNDS)
    compare("spline_3_components", replace(LAYER, n_components=3), N_ROUNDS)
    grow(BASE, VARIED, N_ROUNDS)


if __name__ == "__main__":
    main()
