"""reduce by parts of the channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.artifacts import Activations, Projections, Workspace
from pipeline.artifacts.workspace import release
from pipeline.engine.division import Division
from pipeline.engine.task import Shard
from pipeline.numerics.pca import reduce_channels
from pipeline.stages.reduce import component_count, select


def divided_reduce(division: Division, workspace: Workspace, activations: Activations) -> Projections:
    """Return the projections of all channels."""
    spans = division.channels(len(activations.maps))
    folders = division.each("reduce", compute_reduce, spans, counts="channels")
    # With a share of the variance, the parts differ in the number of components: channels with fewer are padded with 0.
    most = max(np.load(folder / Projections.VALUES, mmap_mode="r").shape[2] for folder in folders)
    n_channels, n_images = activations.maps.shape[:2]
    values = workspace.empty(Projections.VALUES, (n_channels, n_images, most), np.float64)
    ratios, dead, residual = np.zeros((n_channels, most)), np.zeros(n_channels, dtype=bool), np.zeros(n_channels)
    is_exact = True
    for (start, stop), folder in zip(spans, folders, strict=True):
        part = Projections.load(folder)
        n_kept = part.values.shape[2]
        values[start:stop, :, :n_kept], values[start:stop, :, n_kept:] = part.values, 0.0
        ratios[start:stop, :n_kept], dead[start:stop] = part.explained_variance_ratio, part.dead
        if part.residual is not None:
            residual[start:stop], is_exact = part.residual, False
        release(values)
    return Projections(values, ratios, dead, None if is_exact else residual)


def compute_reduce(shard: Shard, folder: Path) -> None:
    """Write the projections of some channels."""
    reads, workspace = select(shard.settings), Workspace(folder)
    activations = Activations.load(shard.upstream["activations"])
    found = reduce_channels(
        activations.maps[shard.start : shard.stop], component_count(reads, activations),
        lambda done, total: release(activations.maps),
        memory_mib=reads.memory_mib, n_threads=shard.n_threads, first=shard.start,
        empty=lambda shape: workspace.empty(Projections.VALUES, shape, np.float64),
    )  # fmt: skip
    Projections(*found).save(folder)
