"""The scores of all channels, the evidence for them, and the transforms of ACE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from pipeline.arrays import BoolArray, FloatArray, Int64Array
from pipeline.artifacts.base import Artifact, load_array, own_files, save_array


@dataclass(frozen=True)
class AceFit:
    """The results of ACE in addition to its scores.

    Attributes
    ----------
    r_squared : ndarray of shape (n_channels,)
        1 - mean((theta - sum of phi)^2).
    phi : ndarray of shape (n_channels, n_images, n_components)
        Transform of each component at each image.
    theta : ndarray of shape (n_channels, n_images)
        Transform of the class score at each image, with mean 0 and standard deviation 1; 0 for a dead channel.
    iterations : ndarray of shape (n_channels,) or None
        Number of outer iterations, int64; None with splines, whose solution is a closed form.
    degrees_of_freedom : ndarray of shape (n_channels,) or None
        Effective degrees of freedom of the regression on the components; None with the supersmoother.
    """

    r_squared: FloatArray
    phi: FloatArray
    theta: FloatArray
    iterations: Int64Array | None = None
    degrees_of_freedom: FloatArray | None = None

    PHI: ClassVar = "phi.npy"
    THETA: ClassVar = "theta.npy"

    def save(self, folder: Path) -> None:
        """Write a ``.npy`` file for each attribute that is not None."""
        for field in fields(self):
            if (array := getattr(self, field.name)) is not None:
                save_array(folder / f"{field.name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; large arrays are mapped read-only."""
        own = own_files(folder)
        names = [field.name for field in fields(cls) if f"{field.name}.npy" in own]
        return cls(**{name: load_array(folder / f"{name}.npy") for name in names})


@dataclass(frozen=True)
class ChannelScores(Artifact):
    """The scores of all channels, and the evidence for them.

    Attributes
    ----------
    values : mapping of str to ndarray of shape (n_channels,)
        The scores by name of the statistic; 0 for a dead channel. ACE computes ``maximal``,
        corr(phi_1 + ... + phi_p, theta), and ``first``, abs(corr(phi_1, theta)), which the original scripts compute;
        with splines also ``penalised``, the correlation shrunk by the penalties. Every other ranker computes one
        statistic, which has the ranker's name.
    dead : ndarray of shape (n_channels,)
        bool; see `Projections`.
    evidence : mapping of str to DataFrame
        For each statistic, the evidence for each channel's score: one row per channel, NaN for a dead channel. It has
        the columns of `pipeline.numerics.evidence` that were requested.
    curves : mapping of str to ndarray of shape (n_sizes, 2)
        For each statistic, the reliability curve: a number of images, and the Spearman correlation between the rankings
        from two disjoint sets of that many images. The last row is for halves of all images. Empty if no halves were
        requested.
    fit : AceFit or None
        The other results of ACE; None for other rankers.
    smoothness : mapping or None
        The choice of the smoothness of splines: the fields of `pipeline.numerics.spline_smoothness.SmoothnessChoice` in
        the types of JSON. None if there was nothing to choose.
    completeness_error : float or None
        For attributions that are complete: the difference between the sum of all contributions and the change of the
        class score, summed over the images, as a share of that change. None for other rankers.
    """

    values: Mapping[str, FloatArray]
    dead: BoolArray
    evidence: Mapping[str, pd.DataFrame]
    curves: Mapping[str, FloatArray]
    fit: AceFit | None = None
    smoothness: Mapping[str, Any] | None = None
    completeness_error: float | None = None

    name = "scores"
    SCORES = "scores.parquet"
    SMOOTHNESS = "smoothness.json"
    COMPLETENESS = "completeness.json"

    @property
    def description(self) -> str:
        """Number of channels, and for ACE the mean number of iterations or of degrees of freedom."""
        words, varying = f"{len(self.dead)} channels", ~self.dead
        if self.fit is not None and self.fit.iterations is not None:
            words += f", {self.fit.iterations[varying].mean():.1f} iterations on average"
        if self.fit is not None and self.fit.degrees_of_freedom is not None:
            if self.smoothness is not None and len(self.smoothness["components"]) > 1:
                n_chosen = self.smoothness["n_components"]
                words += f", {n_chosen} component{'s' if n_chosen > 1 else ''} chosen"
            words += f", {self.fit.degrees_of_freedom[varying].mean():.1f} degrees of freedom on average"
        return words

    def save(self, folder: Path) -> Self:
        """Write the scores and the evidence of each statistic as Parquet, and all arrays as ``.npy`` files."""
        pd.DataFrame(self.values).assign(dead=self.dead).to_parquet(folder / self.SCORES, index=False)
        for statistic in self.values:
            table = self.evidence[statistic].rename_axis("channel").reset_index()
            table.to_parquet(folder / f"evidence_{statistic}.parquet", index=False)
            save_array(folder / f"curve_{statistic}.npy", self.curves[statistic])
        if self.fit is not None:
            self.fit.save(folder)
        if self.smoothness is not None:
            (folder / self.SMOOTHNESS).write_text(json.dumps(self.smoothness, indent=1) + "\n", encoding="utf-8")
        if self.completeness_error is not None:
            text = json.dumps({"error": self.completeness_error}, indent=1)
            (folder / self.COMPLETENESS).write_text(text + "\n", encoding="utf-8")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        scores = pd.read_parquet(folder / cls.SCORES)
        dead = scores.pop("dead").to_numpy()
        names, own = [str(name) for name in scores], own_files(folder)

        def from_json(name: str) -> Any:
            return json.loads((folder / name).read_text(encoding="utf-8")) if name in own else None

        completeness = from_json(cls.COMPLETENESS)
        return cls(
            values={name: scores[name].to_numpy() for name in names},
            dead=dead,
            evidence={
                name: pd.read_parquet(folder / f"evidence_{name}.parquet").set_index("channel") for name in names
            },
            curves={name: np.load(folder / f"curve_{name}.npy") for name in names},
            fit=AceFit.load(folder) if AceFit.PHI in own else None,
            smoothness=from_json(cls.SMOOTHNESS),
            completeness_error=None if completeness is None else completeness["error"],
        )
