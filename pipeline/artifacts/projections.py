"""The principal components of every channel's activation maps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.arrays import BoolArray, FloatArray
from pipeline.artifacts.base import Artifact, save_array


@dataclass(frozen=True)
class Projections(Artifact):
    """The images of each channel in the principal components of its own maps.

    Attributes
    ----------
    values : ndarray of shape (n_channels, n_images, n_components)
        Projections of the standardised maps, float64; 0 for a dead channel.
    explained_variance_ratio : ndarray of shape (n_channels, n_components)
        Share of the variance of the standardised pixels, in [0, 1].
    dead : ndarray of shape (n_channels,)
        bool; a channel is dead if none of its pixels differs between images.
    """

    values: FloatArray
    explained_variance_ratio: FloatArray
    dead: BoolArray

    name = "projections"

    @property
    def description(self) -> str:
        """Number of components, and their mean share of the variance."""
        ratios, varying = self.explained_variance_ratio, ~self.dead
        share = ratios[varying].sum(axis=1).mean() if varying.any() else 0.0
        n_kept = (ratios[varying] > 0).sum(axis=1)
        counts = sorted({int(n_kept.min()), int(n_kept.max())}) if len(n_kept) else [0]
        noun, verb = ("component", "holds") if counts == [1] else ("components", "hold")
        return f"{' to '.join(map(str, counts))} {noun} {verb} {share:.0%} of the variance"

    def save(self, folder: Path) -> Self:
        """Write a ``.npy`` file for each attribute."""
        for field in fields(self):
            save_array(folder / f"{field.name}.npy", getattr(self, field.name))
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**{field.name: np.load(folder / f"{field.name}.npy") for field in fields(cls)})
