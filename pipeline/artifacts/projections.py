"""The principal components of every channel's activation maps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from pipeline.arrays import BoolArray, FloatArray
from pipeline.artifacts.base import Artifact, load_array, own_files, save_array


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
    residual : ndarray of shape (n_channels,) or None
        If the components are approximated, because exact ones would be too expensive: how accurate they are, see
        `pipeline.numerics.krylov.Eigenpairs.residual`. None if they are exact.
    """

    values: FloatArray
    explained_variance_ratio: FloatArray
    dead: BoolArray
    residual: FloatArray | None = None

    name = "projections"
    VALUES = "values.npy"

    @property
    def description(self) -> str:
        """Number of components, and their mean share of the variance."""
        ratios, varying = self.explained_variance_ratio, ~self.dead
        share = ratios[varying].sum(axis=1).mean() if varying.any() else 0.0
        n_kept = (ratios[varying] > 0).sum(axis=1)
        counts = sorted({int(n_kept.min()), int(n_kept.max())}) if len(n_kept) else [0]
        noun, verb = ("component", "holds") if counts == [1] else ("components", "hold")
        words = f"{' to '.join(map(str, counts))} {noun} {verb} {share:.0%} of the variance"
        if self.residual is not None:
            words += f", approximated with a residual of {self.residual.max():.0e}"
        return words

    def save(self, folder: Path) -> Self:
        """Write a ``.npy`` file for each attribute that is not None."""
        for field in fields(self):
            if (array := getattr(self, field.name)) is not None:
                save_array(folder / f"{field.name}.npy", array)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; large projections are mapped read-only."""
        own = own_files(folder)
        names = [field.name for field in fields(cls) if f"{field.name}.npy" in own]
        return cls(**{name: load_array(folder / f"{name}.npy") for name in names})
