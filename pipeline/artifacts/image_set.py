"""The images that are analysed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from pipeline.artifacts.base import Artifact, own_files
from pipeline.spreadsheets import marked, original


@dataclass(frozen=True)
class ImageRecord:
    """One image of an `ImageSet`.

    Attributes
    ----------
    id : str
        Unique within the set, e.g. ``cat/0007``.
    source : str
        Origin of the image, never an absolute path: ``digits:183`` or ``folder:cat/0007.jpg``.
    file : str
        Path of the file relative to the folder of the artifact.
    sha256 : str
        SHA-256 of the file's bytes.
    width, height : int
        Size in pixels.
    class_name : str
        Class of the image; empty if the source has no classes.
    """

    id: str
    source: str
    file: str
    sha256: str
    width: int
    height: int
    class_name: str


@dataclass(frozen=True)
class ImageSet(Artifact):
    """The images, decoded and checked, in a fixed order.

    Attributes
    ----------
    folder : Path
        Folder that contains the files.
    records : tuple of ImageRecord
        The images, in order.
    first_copies : tuple of int
        For each image, the index of the first image with the same pixels, which is its own if there is none before it.
        Empty if all images differ.
    """

    folder: Path
    records: tuple[ImageRecord, ...]
    first_copies: tuple[int, ...] = ()

    name = "images"
    MANIFEST = "manifest.csv"
    COPIES = "copies.csv"  # written if there are copies: each with the image that it is a copy of
    REPORT = "report.csv"  # written by sources on the web: each requested address and its result

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.records)

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [self.folder / record.file for record in self.records]

    @property
    def report(self) -> Path | None:
        """The file with the result of each requested address; None if the source does not write one."""
        return self.folder / self.REPORT if self.REPORT in own_files(self.folder) else None

    @property
    def n_failed(self) -> int:
        """Number of addresses that did not result in an image."""
        if self.report is None:
            return 0
        with self.report.open(newline="", encoding="utf-8") as file:
            return sum(row["taken"] == "False" for row in csv.DictReader(file))

    @property
    def n_copies(self) -> int:
        """The number of images that have the same pixels as an earlier one."""
        return sum(first != index for index, first in enumerate(self.first_copies))

    @property
    def note(self) -> str:
        """What a reader must know of the images; empty if all of them differ."""
        if not self.n_copies:
            return ""
        n_different = len(self) - self.n_copies
        return (
            f"{self.n_copies} of the {len(self)} images are copies of others (the same pixels), so only {n_different} "
            "images differ; copies are kept together in halves, folds and permutations"
        )

    @property
    def description(self) -> str:
        """Number and size of the images."""
        sizes = sorted({(record.width, record.height) for record in self.records})
        size = " x ".join(map(str, sizes[0])) if len(sizes) == 1 else f"{len(sizes)} sizes"
        failed = f" ({self.n_failed} addresses failed)" if self.n_failed else ""
        copies = f", {self.n_copies} of them copies" if self.n_copies else ""
        return f"{len(self.records)} images of {size} pixels{copies}{failed}"

    def save(self, folder: Path) -> Self:
        """Write the manifest; the source has already written the images into this folder."""
        with (folder / self.MANIFEST).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(ImageRecord)])
            writer.writeheader()
            writer.writerows({name: marked(value) for name, value in asdict(record).items()} for record in self.records)
        if self.n_copies:
            with (folder / self.COPIES).open("w", newline="", encoding="utf-8") as file:
                rows = ((index, first) for index, first in enumerate(self.first_copies) if index != first)
                csv.writer(file).writerows(
                    [["image", "copy_of", "id", "id_of_original"]]
                    + [
                        [index, first, *(marked(self.records[each].id) for each in (index, first))]
                        for index, first in rows
                    ]
                )
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the manifest; the images stay in the folder."""
        with (folder / cls.MANIFEST).open(newline="", encoding="utf-8") as file:
            texts = [{name: original(value) for name, value in row.items()} for row in csv.DictReader(file)]
        rows = [
            ImageRecord(**{**row, "width": int(row["width"]), "height": int(row["height"])})  # type: ignore[arg-type]
            for row in texts
        ]
        return cls(folder, tuple(rows), cls._load_copies(folder, rows))

    @classmethod
    def _load_copies(cls, folder: Path, rows: Sequence[ImageRecord]) -> tuple[int, ...]:
        """Return `first_copies`; artifacts of earlier versions do not list copies, but equal bytes are copies."""
        if cls.COPIES in own_files(folder):
            with (folder / cls.COPIES).open(newline="", encoding="utf-8") as file:
                listed = {int(row["image"]): int(row["copy_of"]) for row in csv.DictReader(file)}
            return tuple(listed.get(index, index) for index in range(len(rows)))
        return first_copies([record.sha256 for record in rows])


def first_copies(digests: Sequence[str]) -> tuple[int, ...]:
    """Return the index of the first equal digest for each of them; empty if all differ."""
    first: dict[str, int] = {}
    found = tuple(first.setdefault(digest, index) for index, digest in enumerate(digests))
    return found if len(first) < len(digests) else ()
