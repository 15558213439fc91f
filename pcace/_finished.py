"""Rankings of finished runs of the command line, from the folder of the run and the artifact store."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pcace._folder import KINDS
from pcace._pictures import PixelScale, pictures_of
from pcace._ranking import Ranking
from pcace._views import PARTS, LazyViews, LiveViews, Views
from pipeline.artifacts import Artifact, ImageSet
from pipeline.artifacts import Ranking as RankingTable
from pipeline.config import with_defaults
from pipeline.errors import StorageError
from pipeline.figures.attempts import Attempts
from pipeline.figures.network_views import coloured
from pipeline.figures.pictures import FilePictures
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.networks.declared import class_names
from pipeline.networks.examined import NetworkRequest
from pipeline.run_folder import KEYS, SETTINGS
from pipeline.settings import Settings, settings_from
from pipeline.stages import load_stages
from pipeline.store import ArtifactKey, Store


@dataclass(frozen=True)
class RunPictures(FilePictures):
    """The images of a run, which are read from their files.

    Attributes
    ----------
    request : NetworkRequest
        The network, whose inputs are saved as pictures.
    """

    request: NetworkRequest

    @property
    def scale(self) -> PixelScale:
        """The normalisation of the inputs."""
        mean, std = (tuple(each.flatten().tolist()) for each in self.preprocessing.normalization)
        return PixelScale(mean, std)

    def save(self, folder: Path) -> None:
        """Write the pictures of all images."""
        pictures_of(self.request.inputs(self.images), self.scale).save(folder)


@dataclass(frozen=True)
class RunViews:
    """What the views of a run are computed from: the network is built again when they are needed.

    Attributes
    ----------
    settings : Settings
        The settings of the run.
    pictures : RunPictures
        The images.
    """

    settings: Settings
    pictures: RunPictures

    def views(self, ranked: RankedLayer) -> Views:
        """Return the views of a ranking."""
        attempts, pictures = Attempts(), self.pictures
        examined = attempts.result(f"{PARTS}: the network cannot be built again", pictures.request.open)
        if examined is None:
            return Views(None, None, tuple(attempts.notes))
        chosen = pictures.inputs(ranked.chosen)
        is_needed = ranked.visualize.maximize != "never"
        real = pictures.inputs(coloured(len(pictures.images))) if is_needed else chosen[:0]
        return LiveViews(
            self.settings.model.label, examined, None, None, chosen, real, pictures.scale, self.settings.seed
        ).views(ranked)


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run of one layer."""
    return (folder / SETTINGS).exists() and (folder / RankingTable.PARQUET).exists()


def read_settings(folder: Path) -> Settings:
    """Return the settings of a run."""
    values: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    return settings_from(with_defaults(values))


def finished(folder: Path) -> Ranking:
    """Return the ranking of a finished run of one layer.

    Raises
    ------
    StorageError
        If its artifacts are not in the store.
    """
    settings = read_settings(folder)
    artifacts = _artifacts(folder, settings)
    images = artifacts[ImageSet.name]
    assert isinstance(images, ImageSet)
    request = NetworkRequest.of(settings)
    pictures = RunPictures(images, request.preprocessing, request)
    names = class_names(settings.model)
    if names is not None:
        settings = replace(settings, model=replace(settings.model, class_names=names))
    views = LazyViews(RunViews(settings, pictures))
    return Ranking.of(settings, settings.target_label, images, artifacts, pictures, views, {})


def _artifacts(folder: Path, settings: Settings) -> dict[str, Artifact]:
    """Return the artifacts of a run by their names."""
    stages = {stage.artifact: stage for stage in load_stages()}
    kinds: tuple[type[Artifact], ...] = (*KINDS, RankingTable)
    needed = [(stages[kind].name, kind) for kind in kinds]
    try:
        digests = json.loads((folder / KEYS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StorageError(
            f"the folder of a run must have {KEYS}; got {folder}, which an earlier version of pcace has written. "
            "Repeat the run: what is in the store is not computed again."
        ) from error
    keys = {name: ArtifactKey(name, digests[name], {}) for name, _ in needed}
    places = [each / "store" for each in (Path(settings.paths.outputs), *folder.absolute().parents)]
    root = next((place for place in places if (place / str(keys["rank"])).is_dir()), places[0])
    found: dict[str, Artifact] = {}
    with Store(root) as store:
        for name, kind in needed:
            place = store.find(keys[name])
            if place is None:
                raise StorageError(
                    f"the results of a run must be in the store; got {folder}, whose {kind.name} are not in {root}. "
                    "Repeat the run."
                )
            found[kind.name] = kind.load(place)
    return found
