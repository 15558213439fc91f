"""Time of the forward passes of the original scripts and of this project.

The original scripts run the network on every image twice for each channel (once for the map and once for the class
score), one image at a time. This project runs it once for all channels, in batches. Both are measured in turns on the
same images.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.timing import report, seconds
from pipeline.artifacts import Workspace
from pipeline.config import compose_settings
from pipeline.networks.capture import capture
from pipeline.networks.inputs import Preprocessing
from pipeline.networks.load import load
from pipeline.resolve import resolve
from pipeline.stages import activate, download

N_ROUNDS = 3


def main() -> None:
    """Measure both for the default layer, print the table and write it."""
    settings = resolve(compose_settings([]))
    network, preprocessing = load(settings.model, settings.seed), Preprocessing(settings.model)
    with TemporaryDirectory() as scratch:
        (Path(scratch) / "images").mkdir()
        images = download.STAGE.compute(settings, {}, Workspace(Path(scratch) / "images"), lambda done, total: None)

        def original_for_one_channel() -> None:
            with torch.inference_mode(), capture(network, settings.layer) as captured:
                for path in images.paths:
                    for _ in range(2):
                        network(preprocessing.load([path]))
                        captured.take()

        def whole_layer() -> None:
            with TemporaryDirectory() as folder:
                activate.STAGE.compute(settings, {"images": images}, Workspace(Path(folder)), lambda done, total: None)

        whole_layer()  # the first call takes longer
        times = [(seconds(original_for_one_channel), seconds(whole_layer)) for _ in range(N_ROUNDS)]
    n_channels = 64
    per_channel = statistics.median(original for original, _ in times)
    layer = statistics.median(pcace for _, pcace in times)
    ratio = statistics.median(original * n_channels / pcace for original, pcace in times)
    rows = [
        ["original scripts, one channel", f"{per_channel:.3f}"],
        [f"original scripts, {n_channels} channels (multiplied)", f"{per_channel * n_channels:.1f}"],
        [f"pcace, {n_channels} channels, maps written to disk", f"{layer:.3f}"],
        ["ratio, median of the rounds", f"{ratio:,.0f} x"],
    ]
    title = f"Activations of {settings.layer} ({n_channels} channels), {settings.n_images} images"
    report("one_pass", title, ["forward passes", "seconds"], rows)


if __name__ == "__main__":
    main()
