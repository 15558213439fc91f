"""What one pass for all channels saves over the original's passes per channel, side by side.

The original scripts run the network on every image twice for each channel (once for the map, once for the class
score), image by image. We run it once, in batches, for all channels. Both are timed here on the same images, in turns,
and the ratio is what counts: these machines are shared and noisy.
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
    """Time one channel the original's way and the whole layer ours, print and write the table."""
    settings = resolve(compose_settings([]))
    network, preprocessing = load(settings.model, settings.seed), Preprocessing(settings.model)
    with TemporaryDirectory() as scratch:
        (Path(scratch) / "images").mkdir()
        images = download.STAGE.compute(settings, {}, Workspace(Path(scratch) / "images"), lambda done, total: None)

        def one_channel_as_the_original() -> None:
            with torch.inference_mode(), capture(network, settings.layer) as captured:
                for path in images.paths:
                    for _ in range(2):
                        network(preprocessing.load([path]))
                        captured.take()

        def whole_layer() -> None:
            with TemporaryDirectory() as folder:
                activate.STAGE.compute(settings, {"images": images}, Workspace(Path(folder)), lambda done, total: None)

        whole_layer()  # warm
        rows = [(seconds(one_channel_as_the_original), seconds(whole_layer)) for _ in range(N_ROUNDS)]
    n_channels = 64
    per_channel = statistics.median(theirs for theirs, _ in rows)
    layer = statistics.median(ours for _, ours in rows)
    ratio = statistics.median(theirs * n_channels / ours for theirs, ours in rows)
    rows_shown = [
        ["the original's passes, one channel", f"{per_channel:.3f}"],
        [f"the same for {n_channels} channels", f"{per_channel * n_channels:.1f}"],
        ["one pass for all channels, maps written to disk", f"{layer:.3f}"],
        ["ratio, median of side-by-side rounds", f"{ratio:,.0f} x"],
    ]
    title = f"Activations of {settings.layer} ({n_channels} channels), {settings.n_images} images"
    report("one_pass", title, ["way", "seconds"], rows_shown)


if __name__ == "__main__":
    main()
