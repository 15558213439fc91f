"""What flows between the stages: seven artifacts, each a folder of plain files that other programs can read."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from io import BytesIO
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
    REPORT = "report.csv"  # of a source where some fail: every address that was looked at, and what became of it

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.records)

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [self.folder / record.file for record in self.records]

    @property
    def report(self) -> Path | None:
        """The table of what was looked at, where the source wrote one."""
        path = self.folder / self.REPORT
        return path if path.is_file() else None

    @property
    def n_failed(self) -> int:
        """The number of addresses that gave no image."""
        if self.report is None:
            return 0
        with self.report.open(newline="", encoding="utf-8") as file:
            return sum(row["taken"] == "False" for row in csv.DictReader(file))

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


@dataclass(frozen=True)
class Trust:
    """How far a whole ranking can be trusted; None where it was not asked.

    Attributes
    ----------
    reliability : float or None
        Expected rank correlation with the ranking by as many other images (split halves, Spearman and Brown).
    images_for_reliable : float or None
        About how many images would bring it to .9; infinite where halves do not agree at all.
    n_significant : int or None
        Channels with q < .05.
    curve : tuple of (int, float)
        Images, and the Spearman correlation of the rankings by two sets of so many.
    """

    reliability: float | None = None
    images_for_reliable: float | None = None
    n_significant: int | None = None
    curve: tuple[tuple[int, float], ...] = ()

    ENOUGH = 0.7

    @property
    def is_low(self) -> bool:
        """Whether the ranking is not to be trusted."""
        return self.reliability is not None and self.reliability < self.ENOUGH

    def sentences(self, n_images: int, n_channels: int) -> list[str]:
        """Return what a reader must know, the most important first."""
        found = []
        if self.reliability is not None and self.images_for_reliable is not None:
            many = self.images_for_reliable
            more = f"about {round(many, -2 if many >= 1000 else -1):,.0f}" if many < 1e6 else "far more"
            figure = f"reliability is {self.reliability:.2f} with {n_images} images"
            if self.is_low:
                found.append(f"This ranking is not to be trusted: its {figure}; {more} would bring it to .9.")
            elif many > n_images:
                found.append(f"The ranking's {figure}; {more} would bring it to .9.")
            else:
                found.append(f"The ranking's {figure}.")
        if self.n_significant is not None:
            found.append(f"{self.n_significant} of {n_channels} channels stand out from chance at q < .05.")
        return found


@dataclass(frozen=True)
class Ranking:
    """The channels, best first: one row each, columns ``rank, channel, score, ...``; and how far to trust them."""

    table: pd.DataFrame
    trust: Trust = Trust()

    CSV = "ranking.csv"
    PARQUET = "ranking.parquet"
    TRUST = "trust.json"

    @property
    def sentences(self) -> list[str]:
        """What a reader must know of the ranking as a whole, the most important first."""
        return self.trust.sentences(int(self.table.n_images.iloc[0]), int((~self.table.dead).sum()))

    def summary(self) -> dict[str, float]:
        """Return a few numbers that compare: of the scores (the median of the living) and of the channels."""
        table = self.table
        return {
            "score.best": float(table.score.max()),
            "score.median": float(table[~table.dead].score.median()),
            "score.share_above_half": float((table.score > 0.5).mean()),
            "n_channels": len(table),
            "n_dead": int(table.dead.sum()),
        }

    def save(self, folder: Path) -> Self:
        """Write CSV for people and Parquet for programs, and the trust in it as JSON."""
        (folder / self.TRUST).write_text(json.dumps(asdict(self.trust), indent=1) + "\n", encoding="utf-8")
        self.table.to_csv(folder / self.CSV, index=False, lineterminator="\n")
        self.table.to_parquet(folder / self.PARQUET, index=False)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the table in `folder`."""
        trust = json.loads((folder / cls.TRUST).read_text(encoding="utf-8"))
        curve = tuple((int(images), float(value)) for images, value in trust.pop("curve"))
        return cls(pd.read_parquet(folder / cls.PARQUET), Trust(**trust, curve=curve))


@dataclass(frozen=True)
class Faithfulness:
    """How far removal of channels bears a ranking out; None where it was not measured, or has no value.

    Attributes
    ----------
    spearman : float or None
        Rank correlation over the living channels, in [-1, 1], of the ranking's score and the mean absolute change of
        the class score when the channel is set to zero.
    deletion_area, insertion_area : float or None
        Under the curve of what is left of the class score as the best channels are removed (a faithful ranking's is
        small) or alone kept (large): see `pipeline.numerics.faithfulness.removal_curves`.
    random_deletion_area, random_insertion_area : float or None
        The same of channels in random orders.
    mode : str or None
        How channels were removed for the curves.
    """

    spearman: float | None = None
    deletion_area: float | None = None
    insertion_area: float | None = None
    random_deletion_area: float | None = None
    random_insertion_area: float | None = None
    mode: str | None = None

    @property
    def sentence(self) -> str | None:
        """What a reader must know."""
        if self.spearman is None:
            return None
        figure = f"Spearman {self.spearman:.2f}".replace("0.", ".", 1)
        if self.spearman >= 0.5:
            return f"Removing a channel moves the class score much as the ranking says: {figure}."
        if self.spearman >= 0.25:
            return f"Removing a channel moves the class score only in part as the ranking says: {figure}."
        return (
            f"Removing a channel hardly moves the class score as the ranking says ({figure}): a channel may follow the "
            "class score without moving it."
        )


@dataclass(frozen=True)
class Effects:
    """How the class score moves when channels are removed.

    Attributes
    ----------
    table : DataFrame
        A row for each living channel, best first: ``rank, channel, score``, and for each of the modes ``zero``,
        ``mean`` and ``resample`` the mean absolute change of the class score, and its mean change (``zero_signed``).
        Empty where nothing was removed.
    curves : DataFrame
        See `pipeline.numerics.faithfulness.removal_curves`.
    faithfulness : Faithfulness
        The two in a few numbers.
    note : str
        Why nothing was removed, where one may wonder.
    """

    table: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
    faithfulness: Faithfulness = Faithfulness()
    note: str = ""

    CSV = "effects.csv"
    CURVES = "curves.csv"
    SUMMARY = "faithfulness.json"

    @property
    def is_measured(self) -> bool:
        """Whether channels were removed."""
        return len(self.table) > 0

    def save(self, folder: Path) -> Self:
        """Write two tables as CSV, and what sums them up as JSON."""
        summary = {**asdict(self.faithfulness), "note": self.note}
        (folder / self.SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        if self.is_measured:
            self.table.to_csv(folder / self.CSV, index=False, lineterminator="\n")
            self.curves.to_csv(folder / self.CURVES, index=False, lineterminator="\n")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        summary = json.loads((folder / cls.SUMMARY).read_text(encoding="utf-8"))
        note = summary.pop("note")
        if not (folder / cls.CSV).exists():
            return cls(note=note)
        table, curves = pd.read_csv(folder / cls.CSV), pd.read_csv(folder / cls.CURVES)
        return cls(table, curves, Faithfulness(**summary), note)


@dataclass(frozen=True)
class Figures:
    """Pictures, a note for each that could not be drawn, and what the report shows beside them."""

    folder: Path
    notes: tuple[str, ...] = ()

    NOTES = "notes.txt"
    GALLERY = "gallery.json"
    CARDS = "channels"

    @property
    def paths(self) -> list[Path]:
        """The figures, by name."""
        return sorted(self.folder.glob("*.png"))

    @property
    def cards(self) -> dict[int, Path]:
        """One small picture for each of the best channels, by channel, the best first."""
        found = sorted((self.folder / self.CARDS).glob("*.png"))
        return {int(path.stem.rpartition("_")[2]): path for path in found}

    @property
    def all_pictures(self) -> list[Path]:
        """Figures, cards and overlays."""
        return sorted(self.folder.rglob("*.png"))

    def save(self) -> Self:
        """Write the notes beside the pictures."""
        (self.folder / self.NOTES).write_text("".join(f"{note}\n" for note in self.notes), encoding="utf-8")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Find the pictures in `folder`."""
        return cls(folder, tuple((folder / cls.NOTES).read_text(encoding="utf-8").splitlines()))
