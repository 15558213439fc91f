"""What flows between the stages: eight artifacts, each a folder of plain files that other programs can read."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

from pipeline.arrays import FloatArray
from pipeline.artifacts.arrays import (
    Ablations,
    AceFit,
    Activations,
    ChannelScores,
    Projections,
    create_maps,
    save_array,
)
from pipeline.artifacts.images import Figures, ImageRecord, ImageSet
from pipeline.artifacts.tables import Effects, Faithfulness, Ranking, Trust

__all__ = [
    "Ablations",
    "AceFit",
    "Activations",
    "Artifact",
    "ChannelScores",
    "Effects",
    "Faithfulness",
    "Figures",
    "FloatArray",
    "ImageRecord",
    "ImageSet",
    "Projections",
    "Ranking",
    "Trust",
    "create_maps",
    "save_array",
]


class Artifact(Protocol):
    """Anything a stage leaves behind: loaded from the folder that the stage filled."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the artifact whose files lie in `folder`."""
        ...
