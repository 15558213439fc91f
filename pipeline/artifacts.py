"""What flows between the stages: five artifacts, each a folder of plain files that other programs can read."""

from __future__ import annotations

import csv
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


class Artifact(Protocol):
    """Anything a stage leaves behind: loaded from the folder that the stage filled."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the artifact whose files lie in `folder`."""
        ...


@dataclass(frozen=True)
class ImageRecord:
    """One image of an `ImageSet`.

    Attributes
    ----------
    id : str
        Unique within the set, e.g. ``cat/0007``.
    source : str
        Where it came from, never an absolute path: ``digits:183`` or ``folder:cat/0007.jpg``.
    file : str
        The file's path inside the artifact's folder.
    sha256 : str
        Of the file's bytes.
    width, height : int
        Pixels.
    class_name : str
        Empty where the source knows no classes.
    """

    id: str
    source: str
    file: str
    sha256: str
    width: int
    height: int
    class_name: str


@dataclass(frozen=True)
class ImageSet:
    """Exactly `n_images` decoded and checked images, in a fixed order, and where each came from."""

    folder: Path
    records: tuple[ImageRecord, ...]

    MANIFEST = "manifest.csv"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.records)

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [self.folder / record.file for record in self.records]

    def save(self) -> Self:
        """Write the manifest beside the images, whose files the source has already written."""
        with (self.folder / self.MANIFEST).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(ImageRecord)])
            writer.writeheader()
            writer.writerows(asdict(record) for record in self.records)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the manifest in `folder`."""
        with (folder / cls.MANIFEST).open(newline="", encoding="utf-8") as file:
            rows = [
                ImageRecord(**{**row, "width": int(row["width"]), "height": int(row["height"])})  # type: ignore[arg-type]
                for row in csv.DictReader(file)
            ]
        return cls(folder, tuple(rows))


@dataclass(frozen=True)
class Activations:
    """One layer's output for every image, and each image's class score.

    Attributes
    ----------
    maps : ndarray of shape (n_channels, n_images, height, width)
        float32, memory-mapped: a layer can be larger than memory.
    class_score : ndarray of shape (n_images,)
        float64; the logit of the target class, unbounded.
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


@dataclass(frozen=True)
class _Arrays:
    """Base of the artifacts that are a handful of arrays in memory."""

    def save(self, folder: Path) -> Self:
        """Write one ``.npy`` file per attribute into `folder`."""
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", np.ascontiguousarray(getattr(self, field.name)))
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
class ChannelScores(_Arrays):
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
    """

    maximal: FloatArray
    first: FloatArray
    r_squared: FloatArray
    iterations: NDArray[np.int64]
    dead: NDArray[np.bool_]
    phi: FloatArray
    theta: FloatArray


@dataclass(frozen=True)
class Ranking:
    """The channels, best first: one row each, columns ``rank, channel, score, ...``."""

    table: pd.DataFrame

    CSV = "ranking.csv"
    PARQUET = "ranking.parquet"

    def save(self, folder: Path) -> Self:
        """Write CSV for people and Parquet for programs."""
        self.table.to_csv(folder / self.CSV, index=False, lineterminator="\n")
        self.table.to_parquet(folder / self.PARQUET, index=False)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the table in `folder`."""
        return cls(pd.read_parquet(folder / cls.PARQUET))


@dataclass(frozen=True)
class Figures:
    """Pictures, and a note for each that could not be drawn."""

    folder: Path
    notes: tuple[str, ...] = ()

    NOTES = "notes.txt"

    @property
    def paths(self) -> list[Path]:
        """The pictures, by name."""
        return sorted(self.folder.glob("*.png"))

    def save(self) -> Self:
        """Write the notes beside the pictures."""
        (self.folder / self.NOTES).write_text("".join(f"{note}\n" for note in self.notes), encoding="utf-8")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Find the pictures in `folder`."""
        return cls(folder, tuple((folder / cls.NOTES).read_text(encoding="utf-8").splitlines()))
