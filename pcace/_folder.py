"""The folder that a ranking is saved to."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pcace._pictures import KeptPictures, SavedPictures
from pcace._views import Views
from pipeline.artifacts import Ablations, Activations, Artifact, ChannelScores, Effects, ImageSet, Projections, Ranking
from pipeline.config import with_defaults
from pipeline.errors import StorageError
from pipeline.settings import Settings, settings_from

DESCRIPTION = "pcace.json"
FORMAT = 1  # raised if a saved ranking cannot be read by earlier versions
KINDS: tuple[type[Artifact], ...] = (ImageSet, Activations, Projections, ChannelScores, Ablations, Effects)


@dataclass(frozen=True)
class Saved:
    """What a folder contains.

    Attributes
    ----------
    settings : Settings
        The settings of the ranking.
    target : str
        What the channels are ranked for, in words.
    parts : sequence of Artifact
        An artifact of each of the `KINDS`.
    ranking : Ranking
        The table of the ranking.
    pictures : SavedPictures
        The images.
    views : Views
        What the report shows of the network itself.
    versions : mapping of str to str
        Versions of the software.
    """

    settings: Settings
    target: str
    parts: Sequence[Artifact]
    ranking: Ranking
    pictures: SavedPictures
    views: Views
    versions: Mapping[str, str]


def save(folder: Path, content: Saved) -> Path:
    """Save a ranking, and return the folder; see `pcace.Ranking.save`."""
    with replaced(folder) as temporary:
        write(temporary, content)
    return folder


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Return a temporary folder to write to; it takes the place of `folder` if the context ends without an error.

    Raises
    ------
    StorageError
        If the folder contains something other than a saved ranking.
    """
    if folder.exists() and not (folder / DESCRIPTION).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(
            f"the folder of a saved ranking must be new, empty or that of an earlier one; got {folder}. "
            "Choose another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write(folder: Path, content: Saved, *, same_pictures: Path | None = None) -> None:
    """Write the files of a ranking into an empty folder.

    Parameters
    ----------
    folder : Path
        The folder.
    content : Saved
        The ranking.
    same_pictures : Path, optional
        Folder of another ranking of the same images, whose pictures are linked instead of written again.
    """
    content.ranking.save(folder)
    if same_pictures is None:
        content.pictures.save(folder)
    else:
        _link(same_pictures / KeptPictures.FILE, folder / KeptPictures.FILE)
    content.views.save(folder)
    for artifact in content.parts:
        (folder / artifact.name).mkdir()
        artifact.save(folder / artifact.name)
    description = {
        "format": FORMAT,
        "target": content.target,
        "settings": asdict(content.settings),
        "versions": dict(content.versions),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def read_description(folder: Path) -> dict[str, Any]:
    """Return the description of a saved ranking of a layer or of a network.

    Raises
    ------
    StorageError
        If a newer version has written it.
    """
    description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    if description["format"] > FORMAT:
        raise StorageError(
            f"a saved ranking must have a format of at most {FORMAT}; got {description['format']} ({folder}). "
            "Update pcace."
        )
    return description


def read(folder: Path, pictures: SavedPictures | None = None) -> Saved:
    """Read what `save` wrote; see `pcace.load`.

    Parameters
    ----------
    folder : Path
        The folder.
    pictures : SavedPictures, optional
        The images, if they have been read before.
    """
    with reading(folder):
        description = read_description(folder)
        return Saved(
            settings_from(with_defaults(description["settings"])),
            description["target"],
            [kind.load(folder / kind.name) for kind in KINDS],
            Ranking.load(folder),
            KeptPictures.load(folder) if pictures is None else pictures,
            Views.load(folder),
            description.get("versions", {}),
        )


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Raise `StorageError` for errors in the context, which reads a saved ranking."""
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StorageError(
            f"folder must contain a ranking that Ranking.save has written; got {folder} "
            f"({type(error).__name__}: {error}). Give the folder itself."
        ) from error


def _link(source: Path, target: Path) -> None:
    """Make `target` a hard link to a file, or a copy where the file system has no links."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
