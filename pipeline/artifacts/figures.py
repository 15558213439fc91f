"""The figures of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.artifacts.base import Artifact, own_files


@dataclass(frozen=True)
class Figures(Artifact):
    """The figures of a run, and the other pictures that the report shows.

    Attributes
    ----------
    folder : Path
        Folder that contains the files.
    notes : tuple of str
        A note for each figure that was not drawn, or not drawn in the usual way.
    """

    folder: Path
    notes: tuple[str, ...] = ()

    name = "figures"
    NOTES = "notes.txt"
    GALLERY = "gallery.json"
    CARDS = "channels"

    @property
    def paths(self) -> list[Path]:
        """The files of the figures, ordered by name."""
        return [path for path in self.all_pictures if path.parent == self.folder]

    @property
    def cards(self) -> dict[int, Path]:
        """The files of the small pictures of the best channels, by channel, the best channel first."""
        found = (path for path in self.all_pictures if path.parent == self.folder / self.CARDS)
        return {int(path.stem.rpartition("_")[2]): path for path in found}

    @property
    def all_pictures(self) -> list[Path]:
        """The files of all figures, small pictures and overlays."""
        return [self.folder / name for name in own_files(self.folder) if name.endswith(".png")]

    @property
    def description(self) -> str:
        """Number of figures."""
        return f"{len(self.paths)} figures"

    def save(self, folder: Path) -> Self:
        """Write the notes; the stage has already written the pictures into this folder."""
        (folder / self.NOTES).write_text("".join(f"{note}\n" for note in self.notes), encoding="utf-8")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the notes; the pictures stay in the folder."""
        return cls(folder, tuple((folder / cls.NOTES).read_text(encoding="utf-8").splitlines()))
