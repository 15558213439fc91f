"""A folder of photographs: one subfolder a class, or one flat folder of one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import InputError, listed
from pipeline.sources.base import Candidate, LocalSource

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class FolderSource(LocalSource):
    """Images below `root`, in the order of their paths' names; classes sorted by name, as torchvision's ImageFolder.

    Parameters
    ----------
    root : str
        The folder; ``~`` is understood.
    """

    name = "folder"

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise InputError(f"data.root must be a folder; got {root} (there is none). Give the photographs' folder.")

    def __str__(self) -> str:
        """Return how messages call this source."""
        return f"folder {self.root}"

    def by_class(self) -> Mapping[str, Sequence[Candidate]]:
        """Return the images of each subfolder or, where none holds any, all of the folder as one nameless class."""
        folders = sorted((path for path in self.root.iterdir() if path.is_dir()), key=lambda path: path.name)
        classes = {path.name: found for path in folders if (found := _images(path))} or {"": _images(self.root)}
        if classes == {"": []}:
            raise InputError(f"data.root must hold images ({listed(sorted(SUFFIXES), 9)}); got {self}, which has none.")
        return {
            name: [Candidate(path.relative_to(self.root).as_posix(), path.read_bytes) for path in paths]
            for name, paths in classes.items()
        }


def _images(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, by name; hidden files are none."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=lambda path: path.name)
