"""reduce: standardise each channel's pixels over the images, and compute the leading principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.artifacts import Activations, Projections, Workspace
from pipeline.artifacts.workspace import release
from pipeline.progress import Progress
from pipeline.settings import Settings
from pipeline.stages.stage import Stage

MOST_TO_CHOOSE_FROM = 20


@dataclass(frozen=True)
class ReduceReads:
    """Settings of the stage: the number of components, and the memory that it may use."""

    n_components: int | float | Literal["auto"]
    memory_mib: int

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, in plain JSON types. The memory does not."""
        return {"n_components": self.n_components}


def select(settings: Settings) -> ReduceReads:
    """Return the settings of this stage."""
    return ReduceReads(settings.n_components, settings.reduce.memory_mib)


def run(reads: ReduceReads, *, activations: Activations, workspace: Workspace, progress: Progress) -> Projections:
    """Return the projections of each channel's images onto its principal components.

    With ``n_components="auto"`` there are up to 20 of them, from which the ranker chooses.

    Raises
    ------
    InputError
        If there are fewer images or pixels than components, or one channel does not fit into the memory.
    """
    from pipeline.numerics.pca import reduce_channels

    maps = activations.maps

    def done(n_done: int, n_channels: int) -> None:
        release(maps)
        progress(n_done, n_channels)

    return Projections(
        *reduce_channels(
            maps, component_count(reads, activations), done, memory_mib=reads.memory_mib,
            empty=lambda shape: workspace.empty(Projections.VALUES, shape, np.float64),
        )
    )  # fmt: skip


def component_count(reads: ReduceReads, activations: Activations) -> int | float:
    """Return the number of components that are computed, or the share of the variance."""
    if reads.n_components != "auto":
        return reads.n_components
    n_images, height, width = activations.maps.shape[1:]
    return int(min(MOST_TO_CHOOSE_FROM, n_images, height * width))


STAGE = Stage("reduce", 3, "channels", Projections, select, run)
