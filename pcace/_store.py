"""Results of stages in a store, found by what they were computed from: the images and the activations.

A network in memory has no name and no file by which its results could be found again. Therefore the forward passes are
always run, and the key of everything that is computed from the activations contains their bytes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts import Activations, Artifact, ImageSet, Workspace
from pipeline.digests import digest_bytes
from pipeline.errors import NetworkError
from pipeline.stages.stage import Stage
from pipeline.store import ArtifactKey, Store, artifact_key, storage_errors


@dataclass
class Kept:
    """A store, and the keys of the artifacts of one layer.

    Attributes
    ----------
    store : Store
        The store.
    keys : dict of str to ArtifactKey
        Keys by the names of artifacts.
    layers : dict of str to dict of str to ArtifactKey
        The keys of each layer whose activations were computed, by the names of artifacts.
    """

    store: Store
    keys: dict[str, ArtifactKey] = field(default_factory=dict)
    layers: dict[str, dict[str, ArtifactKey]] = field(default_factory=dict)

    def of_layer(self, layer: str) -> Kept:
        """Return the store with the keys of one of the layers that `activations` was called for."""
        return Kept(self.store, self.layers[layer])

    def activations(
        self,
        stage: Stage[Any, Any],
        images: ImageSet,
        layers: Sequence[str],
        compute: Callable[[Mapping[str, Workspace]], Mapping[str, Activations | NetworkError]],
    ) -> dict[str, Activations | NetworkError]:
        """Return the activations of some layers, which are computed together, and mapped from the store."""
        temporary = self.store.root / "tmp"
        found: dict[str, Activations | NetworkError] = {}
        with storage_errors("the activations", self.store.root):
            temporary.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=temporary) as folder:
                folders = {layer: Path(folder) / str(number) for number, layer in enumerate(layers)}
                for each in folders.values():
                    each.mkdir()
                made = compute({layer: Workspace(each) for layer, each in folders.items()})
                for layer, activations in made.items():
                    if isinstance(activations, NetworkError):
                        found[layer] = activations
                        continue
                    reads = {
                        "in_memory": _digest(activations),
                        "shape": list(activations.maps.shape),
                        "images": digest_bytes("".join(record.sha256 for record in images.records).encode()),
                    }
                    key = artifact_key(stage.name, stage.version, reads, {})
                    self.layers[layer] = {Activations.name: key}
                    stored, _ = self.store.obtain(key, activations.save)
                    found[layer] = Activations.load(stored)
        return found

    def artifact(
        self,
        stage: Stage[Any, Any],
        reads: Mapping[str, Any],
        compute: Callable[[], Artifact],
        is_determined: Callable[[], bool],
    ) -> Artifact:
        """Return the artifact of a stage, from the store or by computing it.

        Parameters
        ----------
        stage : Stage
            The stage.
        reads : mapping
            What its result depends on besides the artifacts upstream.
        compute : callable
            Computes the artifact.
        is_determined : callable
            Called after `compute`; returns whether the artifact depends on nothing else, so that it can be kept.
        """
        if any(name not in self.keys for name in stage.upstream if name != ImageSet.name):
            return compute()  # it builds on an artifact that could not be kept
        upstream = {name: self.keys[name] for name in stage.upstream if name != ImageSet.name}
        key = artifact_key(stage.name, stage.version, reads, upstream)
        found = self.store.find(key)
        if found is None:
            made = compute()
            if not is_determined():
                return made
            found, _ = self.store.obtain(key, made.save)
        self.keys[stage.artifact.name] = key
        kept: Artifact = stage.artifact.load(found)
        return kept


def _digest(activations: Activations) -> str:
    """Return the SHA-256 of the maps and the class scores, without a copy of the maps in memory."""
    found = hashlib.sha256(activations.maps.data.cast("B"))
    found.update(activations.class_score.tobytes())
    return found.hexdigest()


@contextmanager
def kept_in(folder: str | Path | None) -> Iterator[Kept | None]:
    """Open the store in a folder, which is created if it does not exist; None: nothing is kept."""
    if folder is None:
        yield None
        return
    with Store(Path(folder).absolute()) as store:
        yield Kept(store)
