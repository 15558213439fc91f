"""What is computed of every channel: its maps, its projections, its scores."""

from __future__ import annotations

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

FloatArray = NDArray[np.floating[Any]]


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
    dead: NDArray[np.bool_]


@dataclass(frozen=True)
class ChannelScores:
    """What ACE found, for every channel.

    Attributes
    ----------
    maximal : ndarray of shape (n_channels,)
        corr(phi_1 + ... + phi_p, theta), the maximal correlation; 0 for a dead channel.
    first : ndarray of shape (n_channels,)
        abs(corr(phi_1, theta)), what the original scripts compute.
    r_squared : ndarray of shape (n_channels,)
        1 - mean((theta - sum of phi)^2) when the iterations stopped.
    iterations : ndarray of shape (n_channels,)
        Outer iterations, int64.
    dead : ndarray of shape (n_channels,)
        bool, as in `Projections`.
    phi : ndarray of shape (n_channels, n_images, n_components)
        The components' transforms at the images.
    theta : ndarray of shape (n_channels, n_images)
        The class score's transform, mean 0 and standard deviation 1; 0 for a dead channel.
    evidence : mapping of str to DataFrame
        For each statistic, ``"maximal"`` and ``"first"``, how sure each channel's is: one row a channel, NaN for a dead
        one, columns as in `pipeline.numerics.evidence`; no column that was not asked for.
    curves : mapping of str to ndarray of shape (n_sizes, 2)
        For each statistic: images, and how well the rankings by two sets of so many agree (Spearman); the last row,
        halves of all images. Empty where no halves were asked for.
    """

    maximal: FloatArray
    first: FloatArray
    r_squared: FloatArray
    iterations: NDArray[np.int64]
    dead: NDArray[np.bool_]
    phi: FloatArray
    theta: FloatArray
    evidence: Mapping[str, pd.DataFrame]
    curves: Mapping[str, FloatArray]

    STATISTICS = ("maximal", "first")

    def save(self, folder: Path) -> Self:
        """Write one ``.npy`` file per array, one Parquet file per statistic's evidence."""
        for field in fields(self)[:-2]:
            np.save(folder / f"{field.name}.npy", np.ascontiguousarray(getattr(self, field.name)))
        for statistic in self.STATISTICS:
            table = self.evidence[statistic].rename_axis("channel").reset_index()
            table.to_parquet(folder / f"evidence_{statistic}.parquet", index=False)
            np.save(folder / f"curve_{statistic}.npy", self.curves[statistic])
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(
            **{field.name: np.load(folder / f"{field.name}.npy") for field in fields(cls)[:-2]},
            evidence={
                name: pd.read_parquet(folder / f"evidence_{name}.parquet").set_index("channel")
                for name in cls.STATISTICS
            },
            curves={name: np.load(folder / f"curve_{name}.npy") for name in cls.STATISTICS},
        )
