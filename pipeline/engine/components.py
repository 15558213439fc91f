"""reduce by parts of the channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.artifacts import Activations, Projections
from pipeline.engine.division import Division
from pipeline.engine.task import Shard
from pipeline.numerics.pca import reduce_channels
from pipeline.stages.reduce import component_count, select


def divided_reduce(division: Division, activations: Activations) -> Projections:
    """Return the projections of all channels."""
    spans = division.channels(len(activations.maps))
    folders = division.each("reduce", compute_reduce, spans, counts="channels")
    # With a share of the variance, the parts differ in the number of components: channels with fewer are padded with 0.
    most = max(np.load(folder / "values.npy", mmap_mode="r").shape[2] for folder in folders)
    n_channels, n_images = activations.maps.shape[:2]
    values, ratios = np.zeros((n_channels, n_images, most)), np.zeros((n_channels, most))
    dead = np.zeros(n_channels, dtype=bool)
    for (start, stop), folder in zip(spans, folders, strict=True):
        part = Projections.load(folder)
        n_kept = part.values.shape[2]
        values[start:stop, :, :n_kept], ratios[start:stop, :n_kept] = part.values, part.explained_variance_ratio
        dead[start:stop] = part.dead
    return Projections(values, ratios, dead)


def compute_reduce(shard: Shard, folder: Path) -> None:
    """Write the projections of some channels."""
    reads = select(shard.settings)
    activations = Activations.load(shard.upstream["activations"])
    found = reduce_channels(
        activations.maps[shard.start : shard.stop], component_count(reads, activations),
        memory_mib=reads.memory_mib, n_threads=shard.n_threads, first=shard.start,
    )  # fmt: skip
    Projections(*found).save(folder)
