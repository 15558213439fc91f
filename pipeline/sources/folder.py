"""A folder of image files: one subfolder per class, or one flat folder without classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import InputError
from pipeline.sources.base import Candidate, LocalSource

# Of files that `pipeline.decoding` reads; a file with another suffix is not an image.
SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff"}
    | {".webp"}
)


class FolderSource(LocalSource):
    """Image files below a folder, sorted by name; classes are sorted by name as in torchvision's ImageFolder.

    Parameters
    ----------
    root : str
        Path of the folder. A leading ``~`` is the home directory.

    Raises
    ------
    InputError
        If the folder does not exist.
    """

    name = "folder"

    def __init__(self, root: str) -> None:
        self.root = Path(os.path.expanduser(root))
        if not self.root.is_dir():
            raise InputError(f"data.root must be an existing folder; got {root}. Set it to the folder of the images.")

    def __str__(self) -> str:
        """Return the name of the source in messages."""
        return f"folder {self.root}"

    def by_class(self) -> Mapping[str, Sequence[Candidate]]:
        """Return the images of each subfolder or, if no subfolder has any, those of the folder without classes."""
        try:
            folders = sorted((path for path in self.root.iterdir() if path.is_dir()), key=lambda path: path.name)
            classes = {path.name: found for path in folders if (found := _images(path))} or {"": _images(self.root)}
        except OSError as error:
            raise InputError(
                f"data.root and its subfolders must be readable; got {error.filename} ({error.strerror}). "
                "Change its permissions or remove it."
            ) from error
        if classes == {"": []}:
            raise InputError(
                f"data.root must contain images ({', '.join(sorted(SUFFIXES))}); got {self}, which has none. "
                "Set it to the folder of the images."
            )
        return {
            name: [Candidate(path.relative_to(self.root).as_posix(), path.read_bytes) for path in paths]
            for name, paths in classes.items()
        }


def _images(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, sorted by name, without hidden files."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=lambda path: path.name)
