"""associate: measure what a layer as a whole says of the class score, by a linear probe on held-out images.

Runs of a single layer do not have this stage: it is part of the ranking of a network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.artifacts import Activations, ImageSet, Probe, Projections
from pipeline.settings import Settings
from pipeline.stages.stage import Stage


@dataclass(frozen=True)
class AssociateReads:
    """Settings of the stage: the seed of the folds."""

    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, in plain JSON types."""
        return {"seed": self.seed}


def select(settings: Settings) -> AssociateReads:
    """Return the settings of this stage."""
    return AssociateReads(settings.seed)


def run(reads: AssociateReads, *, images: ImageSet, activations: Activations, projections: Projections) -> Probe:
    """Return the association of the layer with the class score."""
    from pipeline.numerics.groups import Groups
    from pipeline.numerics.probe import linear_probe

    copies = Groups.by_label(images.first_copies) if images.n_copies else None
    found = linear_probe(projections.values, activations.class_score, seed=reads.seed, groups=copies)
    return Probe() if found is None else Probe(found.value, found.low, found.high)


STAGE = Stage("associate", 2, "layers", Probe, select, run)
