"""What is computed of every channel: its maps, its projections, its scores."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from pipeline.arrays import BoolArray, FloatArray, Int64Array


@dataclass(frozen=True)
class Activations:
    """One layer's output for every image, and each image's class score.

    Attributes
    ----------
    maps : ndarray of shape (n_channels, n_images, height, width)
        float32, memory-mapped: a layer can be larger than memory.
    class_score : ndarray of shape (n_images,)
        float64; what ``target`` asks for: by default the logit of the target class, unbounded.
    """

    maps: FloatArray
    class_score: FloatArray

    MAPS = "maps.npy"
    CLASS_SCORE = "class_score.npy"

    def means(self) -> FloatArray:
        """Return each channel's mean activation on every image, (n_channels, n_images), float64."""
        return np.stack([np.asarray(maps, dtype=np.float64).mean(axis=(1, 2)) for maps in self.maps])

    def varying(self) -> BoolArray:
        """Return for each channel whether any of its pixels differs between images: a channel that does not is dead."""
        return np.array([bool((maps != maps[:1]).any()) for maps in self.maps])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map the arrays in `folder` read-only."""
        return cls(np.load(folder / cls.MAPS, mmap_mode="r"), np.load(folder / cls.CLASS_SCORE))


def create_maps(folder: Path, shape: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Return a writable float32 memory map for `Activations.maps`, its disk space already taken.

    A sparse file on a full disk kills the writer with SIGBUS; taking the space first turns that into an
    ordinary ``OSError`` (ENOSPC).
    """
    maps = open_memmap(folder / Activations.MAPS, mode="w+", dtype=np.float32, shape=shape)
    with (folder / Activations.MAPS).open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return maps


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write one ``.npy`` file. NumPy's own writer says of a full disk that bytes are missing, not why (no errno)."""
    buffer = BytesIO()
    np.save(buffer, np.ascontiguousarray(array))
    path.write_bytes(buffer.getbuffer())


@dataclass(frozen=True)
class _Arrays:
    """Base of the artifacts that are a handful of arrays in memory."""

    def save(self, folder: Path) -> Self:
        """Write one ``.npy`` file per attribute into `folder`."""
        for field in fields(self):
            save_array(folder / f"{field.name}.npy", getattr(self, field.name))
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the arrays in `folder`."""
        return cls(**{field.name: np.load(folder / f"{field.name}.npy") for field in fields(cls)})


@dataclass(frozen=True)
class Projections(_Arrays):
    """Every channel's images in its own principal components.

    Attributes
    ----------
    values : ndarray of shape (n_channels, n_images, n_components)
        float64; 0 for a dead channel.
    explained_variance_ratio : ndarray of shape (n_channels, n_components)
        Share of the standardised pixels' variance, in [0, 1].
    dead : ndarray of shape (n_channels,)
        bool; a channel none of whose pixels ever varies.
    """

    values: FloatArray
    explained_variance_ratio: FloatArray
    dead: BoolArray


@dataclass(frozen=True)
class Ablations:
    """What removing channels does, whatever the ranking; empty where nothing was removed.

    Attributes
    ----------
    changes : ndarray of shape (3, n_channels, n_images)
        Of the class score when a channel is set to ``zero``, to its ``mean``, or is that of another image.
    random : ndarray of shape (n_draws, n_points)
        The class score, its mean over the images, as more and more channels are removed in random orders: see
        `pipeline.numerics.faithfulness.removal_sets`.
    note : str
        Why nothing was removed, where one may wonder.
    """

    changes: FloatArray = dataclasses.field(default_factory=lambda: np.empty((3, 0, 0)))
    random: FloatArray = dataclasses.field(default_factory=lambda: np.empty((0, 0)))
    note: str = ""

    CHANGES, RANDOM, NOTE = "changes.npy", "random.npy", "note.txt"

    @property
    def is_measured(self) -> bool:
        """Whether channels were removed."""
        return self.changes.size > 0

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


@dataclass(frozen=True)
class AceFit(_Arrays):
    """What ACE leaves beside its scores.

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
    iterations: Int64Array
    phi: FloatArray
    theta: FloatArray


@dataclass(frozen=True)
class ChannelScores:
    """Every channel's scores, and how sure they are.

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
    dead: BoolArray
    evidence: Mapping[str, pd.DataFrame]
    curves: Mapping[str, FloatArray]
    fit: AceFit | None = None

    SCORES = "scores.parquet"

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
