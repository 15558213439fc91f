"""Rankings of single layers and of networks in the folders that they were saved to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pcace._finished import finished, is_run
from pcace._folder import DESCRIPTION, FORMAT, read, read_description, reading, replaced, write
from pcace._pictures import SavedPictures
from pcace._ranking import Ranking
from pcace._views import LazyViews
from pipeline.artifacts import Artifact, ImageSet, NetworkRanking
from pipeline.run_folder import LAYERS, SETTINGS, layer_folder

FOLDERS = "layers"  # key of the description of a network: the folders of the layers by their names


def loaded(folder: Path, pictures: SavedPictures | None = None) -> Ranking:
    """Return the ranking of one layer that was saved, or that of a run; `pictures` are the images, if known."""
    if is_run(folder) and not (folder / DESCRIPTION).exists():
        with reading(folder):
            return finished(folder)
    saved = read(folder, pictures)
    artifacts: dict[str, Artifact] = {each.name: each for each in (*saved.parts, saved.ranking)}
    images = artifacts[ImageSet.name]
    assert isinstance(images, ImageSet)
    return Ranking.of(
        saved.settings, saved.target, images, artifacts, saved.pictures, LazyViews(saved.views), saved.versions
    )


class SavedRankings(Mapping[str, Ranking]):
    """The saved rankings of the layers of a network, each of which is read when it is needed for the first time.

    Parameters
    ----------
    folders : mapping of str to Path
        Folder of each layer, in the order of execution.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        self._found: dict[str, Ranking] = {}

    def __getitem__(self, layer: str) -> Ranking:
        """Return the ranking of a layer."""
        if layer not in self._found:
            known = next((each._pictures for each in self._found.values()), None)
            self._found[layer] = loaded(self._folders[layer], known)
        return self._found[layer]

    def __iter__(self) -> Iterator[str]:
        """Return the names of the layers."""
        return iter(self._folders)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._folders)


def save_network(folder: Path, tables: NetworkRanking, rankings: Mapping[str, Ranking]) -> Path:
    """Save the tables of a network and the rankings of its layers; see `pcace.NetworkRanking.save`."""
    with replaced(folder) as temporary:
        tables.save(temporary)
        (temporary / LAYERS).mkdir()
        first: Path | None = None
        folders = {}
        for layer, ranking in rankings.items():
            own = layer_folder(temporary, layer)
            own.mkdir()
            write(own, ranking._saved, same_pictures=first)
            first = first or own
            folders[layer] = own.relative_to(temporary).as_posix()
        description = {"format": FORMAT, FOLDERS: folders}
        (temporary / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return folder


def is_network_run(folder: Path) -> bool:
    """Return whether a folder is that of a run of several layers."""
    return (folder / SETTINGS).exists() and (folder / NetworkRanking.SUMMARY).exists()


def load_network(folder: Path) -> tuple[NetworkRanking, SavedRankings] | None:
    """Return the tables and the rankings of a network; None if the folder contains the ranking of a single layer."""
    with reading(folder):
        if not (folder / DESCRIPTION).exists():
            if not is_network_run(folder):
                return None
            tables = NetworkRanking.load(folder)
            return tables, SavedRankings({name: layer_folder(folder, name) for name in tables.layers.layer})
        description = read_description(folder)
        if FOLDERS not in description:
            return None
        tables = NetworkRanking.load(folder)
        return tables, SavedRankings({name: folder / place for name, place in description[FOLDERS].items()})
