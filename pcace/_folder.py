"""The folder that a ranking is saved to."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pcace._pictures import KeptPictures
from pcace._views import Views
from pipeline.artifacts import Ablations, Activations, Artifact, ChannelScores, Effects, ImageSet, Projections, Ranking
from pipeline.config import default_group
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
    pictures : KeptPictures
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
    pictures: KeptPictures
    views: Views
    versions: Mapping[str, str]


def save(folder: Path, content: Saved) -> Path:
    """Save a ranking, and return the folder; see `pcace.Ranking.save`."""
    if folder.exists() and not (folder / DESCRIPTION).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(
            f"the folder of a saved ranking must be new, empty or that of an earlier one; got {folder}. "
            "Choose another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(temporary, content)
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write(folder: Path, content: Saved) -> None:
    content.ranking.save(folder)
    content.pictures.save(folder)
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


def read(folder: Path) -> Saved:
    """Read what `save` wrote; see `pcace.load`."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] > FORMAT:
            raise StorageError(
                f"a saved ranking must have a format of at most {FORMAT}; got {description['format']} ({folder}). "
                "Update pcace."
            )
        return Saved(
            settings_from({"network": default_group("network"), **description["settings"]}),
            description["target"],
            [kind.load(folder / kind.name) for kind in KINDS],
            Ranking.load(folder),
            KeptPictures.load(folder),
            Views.load(folder),
            description.get("versions", {}),
        )
    except (OSError, KeyError, ValueError) as error:
        raise StorageError(
            f"folder must contain a ranking that Ranking.save has written; got {folder} "
            f"({type(error).__name__}: {error}). Give the folder itself."
        ) from error
