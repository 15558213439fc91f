"""The scores of every channel, the evidence for them, and ACE's transforms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.arrays import FloatArray
from pipeline.artifacts.base import Artifact, save_array


@dataclass(frozen=True)
class AceFit:
    """What ACE computes beside its scores.

    Attributes
    ----------
    r_squared : ndarray of shape (n_channels,)
        1 - mean((theta - sum of phi)^2) when the iterations stopped.
    iterations : ndarray of shape (n_channels,)
        Outer iterations, int64.
    phi : ndarray of shape (n_channels, n_images, n_components)
        The components' transforms at the images.
    theta : ndarray of shape (n_channels, n_images)
        The class score's transform, mean 0 and standard deviation 1; 0 for a dead channel.
    """

    r_squared: FloatArray
    iterations: NDArray[np.int64]
    phi: FloatArray
    theta: FloatArray

    def save(self, folder: Path) -> None:
        """Write a ``.npy`` file for each attribute."""
        for field in fields(self):
            save_array(folder / f"{field.name}.npy", getattr(self, field.name))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**{field.name: np.load(folder / f"{field.name}.npy") for field in fields(cls)})


@dataclass(frozen=True)
class ChannelScores(Artifact):
    """Every channel's scores, and the evidence for them.

    Attributes
    ----------
    values : mapping of str to ndarray of shape (n_channels,)
        By statistic; 0 for a dead channel. ACE has two, ``maximal``, corr(phi_1 + ... + phi_p, theta), and ``first``,
        abs(corr(phi_1, theta)), what the original scripts compute; any other ranker has one, called as it is.
    dead : ndarray of shape (n_channels,)
        bool, as in `Projections`.
    evidence : mapping of str to DataFrame
        For each statistic, how sure each channel's is: one row a channel, NaN for a dead one, columns as in
        `pipeline.numerics.evidence`; no column that was not asked for.
    curves : mapping of str to ndarray of shape (n_sizes, 2)
        For each statistic: images, and how well the rankings by two sets of so many agree (Spearman); the last row,
        halves of all images. Empty where no halves were asked for.
    fit : AceFit or None
        ACE's transforms; None where another ranker scored.
    """

    values: Mapping[str, FloatArray]
    dead: NDArray[np.bool_]
    evidence: Mapping[str, pd.DataFrame]
    curves: Mapping[str, FloatArray]
    fit: AceFit | None = None

    name = "scores"
    SCORES = "scores.parquet"

    @property
    def description(self) -> str:
        """Number of channels, and of ACE's iterations."""
        mean = "" if self.fit is None else f", {self.fit.iterations[~self.dead].mean():.1f} iterations on average"
        return f"{len(self.dead)} channels{mean}"

    def save(self, folder: Path) -> Self:
        """Write the scores, and each statistic's evidence, as Parquet; what else there is as ``.npy`` files."""
        pd.DataFrame(self.values).assign(dead=self.dead).to_parquet(folder / self.SCORES, index=False)
        for statistic in self.values:
            table = self.evidence[statistic].rename_axis("channel").reset_index()
            table.to_parquet(folder / f"evidence_{statistic}.parquet", index=False)
            save_array(folder / f"curve_{statistic}.npy", self.curves[statistic])
        if self.fit is not None:
            self.fit.save(folder)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        scores = pd.read_parquet(folder / cls.SCORES)
        dead = scores.pop("dead").to_numpy()
        names = [str(name) for name in scores]
        return cls(
            values={name: scores[name].to_numpy() for name in names},
            dead=dead,
            evidence={
                name: pd.read_parquet(folder / f"evidence_{name}.parquet").set_index("channel") for name in names
            },
            curves={name: np.load(folder / f"curve_{name}.npy") for name in names},
            fit=AceFit.load(folder) if (folder / "phi.npy").exists() else None,
        )
