"""The figures of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.artifacts.base import Artifact


@dataclass(frozen=True)
class Figures(Artifact):
    """Figures, a note for each one that could not be drawn, and what the report shows besides."""

    folder: Path
    notes: tuple[str, ...] = ()

    name = "figures"
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

    @property
    def description(self) -> str:
        """Number of figures."""
        return f"{len(self.paths)} figures"

    def save(self, folder: Path) -> Self:
        """Write the notes; the stage has already written the pictures into the same folder."""
        (folder / self.NOTES).write_text("".join(f"{note}\n" for note in self.notes), encoding="utf-8")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Find the pictures in `folder`."""
        return cls(folder, tuple((folder / cls.NOTES).read_text(encoding="utf-8").splitlines()))
