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
    parts = [Projections.load(folder) for folder in division.each("reduce", compute_reduce, spans, counts="channels")]
    # With a share of the variance, the parts differ in the number of components: channels with fewer are padded with 0.
    most = max(part.values.shape[2] for part in parts)
    values = np.zeros((len(activations.maps), parts[0].values.shape[1], most))
    ratios = np.zeros((len(activations.maps), most))
    for (start, stop), part in zip(spans, parts, strict=True):
        values[start:stop, :, : part.values.shape[2]] = part.values
        ratios[start:stop, : part.values.shape[2]] = part.explained_variance_ratio
    return Projections(values, ratios, np.concatenate([part.dead for part in parts]))


def compute_reduce(shard: Shard, folder: Path) -> None:
    """Write the projections of some channels."""
    reads = select(shard.settings)
    activations = Activations.load(shard.upstream["activations"])
    found = reduce_channels(
        activations.maps[shard.start : shard.stop], component_count(reads, activations),
        memory_mib=reads.memory_mib, n_threads=shard.n_threads, first=shard.start,
    )  # fmt: skip
    Projections(*found).save(folder)
