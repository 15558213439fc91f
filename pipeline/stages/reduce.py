"""reduce: standardise each channel's pixels over the images and keep the leading principal components."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import Activations, Projections
from pipeline.numerics.pca import reduce_channels
from pipeline.progress import Progress
from pipeline.settings import Settings

VERSION = 2


@dataclass(frozen=True)
class ReduceReads:
    """What the stage reads."""

    n_components: int | float
    memory_mib: int

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, in plain JSON types; the memory does not."""
        return {"n_components": self.n_components}


def select(settings: Settings) -> ReduceReads:
    """Pick what this stage reads."""
    return ReduceReads(settings.n_components, settings.reduce.memory_mib)


def run(reads: ReduceReads, activations: Activations, *, folder: Path, progress: Progress) -> Projections:
    """Return every channel's projections, written below `folder`.

    Raises
    ------
    InputError
        If there are more components than images or pixels, or one channel does not fit into the memory.
    """
    reduced = reduce_channels(activations.maps, reads.n_components, progress, memory_mib=reads.memory_mib)
    return Projections(*reduced).save(folder)
