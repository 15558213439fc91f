"""What a layer as a whole says of the class score."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pipeline.artifacts.base import Artifact


@dataclass(frozen=True)
class Probe(Artifact):
    """The association of a whole layer with the class score: the result of a linear probe on held-out images.

    Attributes
    ----------
    association : float or None
        Correlation of the predicted and the true class scores of held-out images, in [-1, 1]; None if there are too few
        images. See `pipeline.numerics.probe`.
    low, high : float or None
        Limits of its 95 % confidence interval.
    """

    association: float | None = None
    low: float | None = None
    high: float | None = None

    name = "probe"
    FILE = "probe.json"

    @property
    def description(self) -> str:
        """The association and its interval."""
        if self.association is None:
            return "too few images for a linear probe"
        return f"linear probe of the layer: {self.association:.2f} on held-out images"

    def save(self, folder: Path) -> Self:
        """Write a JSON file."""
        (folder / self.FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**json.loads((folder / cls.FILE).read_text(encoding="utf-8")))
