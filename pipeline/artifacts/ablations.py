"""The effects of ablating channels, independent of any ranking."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.arrays import BoolArray, FloatArray
from pipeline.artifacts.base import Artifact, save_array


@dataclass(frozen=True)
class Ablations(Artifact):
    """The effects of ablating channels, independent of any ranking; empty if no channel was ablated.

    Attributes
    ----------
    changes : ndarray of shape (3, n_channels, n_images)
        Change of each image's class score when a channel is set to ``zero``, to its ``mean``, or to its map for another
        image (``resample``), in this order; NaN where it was not measured. The images are all images, or evenly spaced
        over them.
    random : ndarray of shape (n_draws, n_points)
        Mean class score over the images as more and more channels are ablated in random orders; see
        `pipeline.numerics.faithfulness.ablation_sets`. Without draws, curves are not measured.
    note : str
        Why not all channels were ablated on all images, if it is not obvious; otherwise empty.
    """

    changes: FloatArray = field(default_factory=lambda: np.empty((3, 0, 0)))
    random: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    note: str = ""

    name = "ablations"
    CHANGES, RANDOM, NOTE = "changes.npy", "random.npy", "note.txt"

    @property
    def is_measured(self) -> bool:
        """Whether channels were ablated."""
        return self.changes.size > 0

    @property
    def is_ablated(self) -> BoolArray:
        """Whether a channel was ablated, (n_channels,)."""
        return np.asarray(~np.isnan(self.changes).all(axis=(0, 2)))

    @property
    def n_modes(self) -> int:
        """Number of ways in which channels were ablated, of which the first ones are ``zero, mean, resample``."""
        return int((~np.isnan(self.changes)).any(axis=(1, 2)).sum())

    @property
    def description(self) -> str:
        """Number of channels, and number of ways in which each was ablated."""
        if not self.is_measured:
            return "no channels ablated"
        n_modes = self.n_modes
        return f"{self.is_ablated.sum()} channels, each in {n_modes} way{'s' * (n_modes > 1)}"

    def save(self, folder: Path) -> Self:
        """Write two arrays, and the note as text."""
        save_array(folder / self.CHANGES, self.changes)
        save_array(folder / self.RANDOM, self.random)
        (folder / self.NOTE).write_text(self.note, encoding="utf-8")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        note = (folder / cls.NOTE).read_text(encoding="utf-8")
        return cls(np.load(folder / cls.CHANGES), np.load(folder / cls.RANDOM), note)
