"""``make bench``: what one pass for all channels saves over the original's passes per channel, side by side.

The original scripts run the network on every image twice for each channel (once for the map, once for the class
score), image by image. We run it once, in batches, for all channels. Both are timed here on the same images, in turns,
and the ratio is what counts: these machines are shared and noisy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from pipeline.config import compose_settings
from pipeline.networks.capture import capture
from pipeline.networks.inputs import load_batch, to_input
from pipeline.networks.load import load
from pipeline.resolve import resolve
from pipeline.stages import activate, download

N_ROUNDS = 3
RESULTS = Path(__file__).parent / "results"


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Time one channel the original's way and the whole layer ours, print and write the table."""
    settings = resolve(compose_settings([]))
    network, transform = load(settings.model, settings.seed), to_input(settings.model)
    with TemporaryDirectory() as scratch:
        (Path(scratch) / "images").mkdir()
        images = download.run(
            download.select(settings), folder=Path(scratch) / "images", progress=lambda done, total: None
        )

        def one_channel_as_the_original() -> None:
            with torch.inference_mode(), capture(network, settings.layer) as captured:
                for path in images.paths:
                    for _ in range(2):
                        network(load_batch([path], settings.model, transform))
                        captured.take()

        def whole_layer() -> None:
            with TemporaryDirectory() as folder:
                activate.run(activate.select(settings), images, folder=Path(folder), progress=lambda done, total: None)

        whole_layer()  # warm
        rows = [(seconds(one_channel_as_the_original), seconds(whole_layer)) for _ in range(N_ROUNDS)]
    n_channels = 64
    per_channel = statistics.median(theirs for theirs, _ in rows)
    layer = statistics.median(ours for _, ours in rows)
    ratio = statistics.median(theirs * n_channels / ours for theirs, ours in rows)
    table = Table(title=f"Activations of {settings.layer} ({n_channels} channels), {settings.n_images} images")
    for heading in ("way", "seconds"):
        table.add_column(heading)
    table.add_row("the original's passes, one channel (measured)", f"{per_channel:.3f}")
    table.add_row(f"the same for {n_channels} channels (x {n_channels})", f"{per_channel * n_channels:.1f}")
    table.add_row("one pass for all channels, maps written to disk (measured)", f"{layer:.3f}")
    table.add_row("ratio, median of side-by-side rounds", f"{ratio:,.0f} x")
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "one_pass.md").write_text(
        f"| way | seconds |\n|---|---|\n| the original's passes, one channel | {per_channel:.3f} |\n"
        f"| one pass, {n_channels} channels | {layer:.3f} |\n| ratio for {n_channels} channels | {ratio:,.0f} x |\n"
    )


if __name__ == "__main__":
    main()
