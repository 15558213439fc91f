"""A folder of photographs: one subfolder a class, or one flat folder of one class."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError, listed
from pipeline.sources.base import Candidate, Source

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class FolderSource(Source):
    """Images below `root`, in the order of their paths' names.

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

    def class_names(self) -> tuple[str, ...] | None:
        """Return the subfolders that hold images, sorted by name as torchvision's ImageFolder does; None if flat."""
        names = sorted(path.name for path in self.root.iterdir() if path.is_dir() and _images(path))
        return tuple(names) or None

    def candidates(self, class_name: str | None) -> Sequence[Candidate]:
        """Return the images of a class's subfolder or, where there are no subfolders, all of the folder."""
        classes = self.class_names()
        if classes is None:
            folder = self.root
        elif class_name in classes:
            folder = self.root / class_name
        else:
            near = difflib.get_close_matches(class_name or "", classes, n=3, cutoff=0.4) or classes
            what = "nothing" if class_name is None else f"'{class_name}'"
            raise InputError(
                f"class_name must be one of the subfolders; got {what} ({self}). "
                f"{'There are' if near is classes else 'Nearest'}: {listed(near)}."
            )
        paths = _images(folder)
        if not paths:
            raise InputError(f"data.root must hold images ({listed(sorted(SUFFIXES), 9)}); got {self}, which has none.")
        return [
            Candidate(path.relative_to(self.root).as_posix(), path.suffix.lower(), path.read_bytes) for path in paths
        ]


def _images(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, by name; hidden files are none."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=lambda path: path.name)
