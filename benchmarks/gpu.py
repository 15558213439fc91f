"""Time of the steps that run a network, on the CPU and on a CUDA GPU, and whether the scores agree.

``make bench-gpu`` measures ResNet-18 with random weights on noise of 224 x 224 pixels: the activations, contributions,
ablation of every channel, and activation maximisation. Rankings on the two devices owe scores within .02, nearly all
within 1e-5, and a rank correlation above .999.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.timing import report
from benchmarks.whole_network import write_photographs
from pipeline.arrays import FloatArray
from pipeline.artifacts import Ablations, Activations, ChannelScores
from pipeline.config import compose_settings
from pipeline.networks.backends import fixed_backends
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.maximization import maximize
from pipeline.networks.remembered import remembered
from pipeline.resolve import resolve
from pipeline.runner import STAGES, Execution, store_of

N_IMAGES, LAYER = 100, "layer3.1.conv2"
OVERRIDES = (
    "model=resnet18", "model.weights=random", "model.transform.kind=resize", "data=folder", "class_name=noise",
    "target_class=281", f"n_images={N_IMAGES}", f"layer={LAYER}", "tracking.enabled=false", "ablate.when=always",
)  # fmt: skip
SCORES = ("ace", "gradient_x_activation", "conductance")
DEVICES = ("cpu", "cuda")
LARGEST, TYPICAL, RANKS = 0.02, 1e-5, 0.999
Measured = dict[str, tuple[float, FloatArray]]  # seconds and numbers, by the name of the step


def measure(device: str, photographs: Path, outputs: Path) -> Measured:
    """Return the times and the numbers of all steps on a device."""
    found: Measured = {}
    for kind in SCORES:
        settings = resolve(compose_settings([
            *OVERRIDES, f"score={kind}", f"model.device={device}", f"data.root={photographs}",
            f"paths.outputs={outputs}",
        ]))  # fmt: skip
        with remembered(), store_of(settings) as store:
            execution = Execution(settings, store)
            seconds = {stage.name: execution.obtain(stage).seconds for stage in STAGES[:6]}
            made = execution.artifacts
            if kind == "ace":
                found["activate"] = seconds["activate"], made[Activations].means()
                found["ablate"] = seconds["ablate"], made[Ablations].changes.reshape(-1)
                found["maximise 4 channels"] = maximised(NetworkRequest.of(settings), made[Activations])
            scores = next(iter(made[ChannelScores].values.values()))
            found[f"score={kind}"] = seconds["score"], scores
    return found


@fixed_backends()
def maximised(request: NetworkRequest, activations: Activations) -> tuple[float, FloatArray]:
    """Return the time and the activations that maximisation reaches."""
    examined, channels = request.open(), list(range(4))
    real = torch.rand(8, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(examined.device)
    start = time.perf_counter()
    found = maximize(
        examined.network, examined.layer.name, channels, real, activations.means()[channels], lambda pixels: pixels,
        steps=64, seed=0, progress=lambda done, total: None, axis=examined.channels,
    )  # fmt: skip
    return time.perf_counter() - start, np.asarray(found.reached)


def compared(one: FloatArray, other: FloatArray) -> list[str]:
    """Return the largest and the median difference in units of the largest number, and the rank correlation."""
    apart = np.abs(one - other).ravel() / max(float(np.abs(one).max()), 1e-12)
    ranks = float(spearmanr(one.ravel(), other.ravel()).statistic)
    agree = apart.max() <= LARGEST and np.median(apart) <= TYPICAL and ranks >= RANKS
    return [f"{apart.max():.1e}", f"{np.median(apart):.1e}", f"{ranks:.6f}", "yes" if agree else "no"]


def main() -> None:
    """Measure both devices, print the table and write it; without a CUDA GPU, say so in one line."""
    if not torch.cuda.is_available():
        print("The benchmark of the GPU needs a CUDA device; torch finds none. Nothing was measured.")
        return
    found: dict[str, Mapping[str, Any]] = {}
    with TemporaryDirectory() as scratch:
        write_photographs(Path(scratch) / "photographs", N_IMAGES)
        measure("cuda", Path(scratch) / "photographs", Path(scratch) / "warm")  # the first passes on a GPU take longer
        for device in DEVICES:
            found[device] = measure(device, Path(scratch) / "photographs", Path(scratch) / device)
    cpu, cuda = (found[device] for device in DEVICES)
    rows = [
        [name, f"{cpu[name][0]:.2f}", f"{cuda[name][0]:.2f}", f"{cpu[name][0] / cuda[name][0]:.1f} x",
         *compared(cpu[name][1], cuda[name][1])]
        for name in cpu
    ]  # fmt: skip
    report(
        "gpu", f"ResNet-18, {LAYER}, {N_IMAGES} images: CPU and {torch.cuda.get_device_name()}",
        ["step", "CPU, s", "GPU, s", "ratio", "largest difference", "median difference", "rank correlation", "agree"],
        rows, "Differences are shares of the largest number. Maximisation is a long optimisation: it need not agree.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
