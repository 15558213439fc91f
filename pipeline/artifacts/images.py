"""The images that a question is answered on, and the pictures that an answer leaves."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self


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
