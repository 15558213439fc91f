"""activate by parts of the images: each task decodes its images and runs the network on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.artifacts import Activations, ImageSet, Workspace
from pipeline.artifacts.map_writer import COLLECTED, MapWriter, WritingThread
from pipeline.artifacts.workspace import release
from pipeline.engine.division import Division, Span
from pipeline.engine.task import Shard, images_of
from pipeline.errors import NetworkError
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.inputs import batch_slices
from pipeline.networks.known import layout_of
from pipeline.stages.activate import activations_of_layers, check_class_score, class_label

ERROR = "error.txt"


def divided_activate(division: Division, workspace: Workspace, images: ImageSet) -> Activations:
    """Return the activations of the layer in the settings."""
    layer = division.settings.layer
    found = divided_maps(division, [layer], {layer: workspace}, images)[layer]
    if isinstance(found, NetworkError):
        raise found
    check_class_score(found.class_score, class_label(NetworkRequest.of(division.settings)))
    return found


def divided_maps(
    division: Division, layers: Sequence[str], workspaces: Mapping[str, Workspace], images: ImageSet
) -> dict[str, Activations | NetworkError]:
    """Return the activations of several layers, as `pipeline.stages.activate.activations_of_layers` does."""
    n_images, dtype = len(images.paths), division.settings.activate.dtype
    batches = batch_slices(n_images, division.settings.model.batch_size)
    spans = division.images(batches)
    folders = division.each("maps", compute_maps, spans, counts="images", runs_network=True, layers=tuple(layers))
    with WritingThread() as thread:
        writers = {layer: MapWriter(workspaces[layer], layer, n_images, dtype, COLLECTED, thread) for layer in layers}
        return {
            layer: _joined([folder / str(index) for folder in folders], spans, batches, writers[layer])
            for index, layer in enumerate(layers)
        }


def compute_maps(shard: Shard, folder: Path) -> None:
    """Write the activations of each layer for some images in full precision, or why a layer has none."""
    request, model = NetworkRequest.of(shard.settings), shard.settings.model
    examined, inputs = request.open(), request.inputs(images_of(shard.upstream["images"]))
    layers = [layout_of(model).find(name) for name in shard.given["layers"]]
    targets = {layer.name: folder / str(index) for index, layer in enumerate(layers)}
    for target in targets.values():
        target.mkdir()
    found = activations_of_layers(
        examined, layers, inputs, model.batch_size,
        {name: Workspace(target) for name, target in targets.items()}, lambda done, total: None,
        part=slice(shard.start, shard.stop),
    )  # fmt: skip
    for name, made in found.items():
        if isinstance(made, NetworkError):
            (targets[name] / ERROR).write_text(str(made), encoding="utf-8")
        else:
            made.save(targets[name])


def _joined(
    folders: Sequence[Path], spans: Sequence[Span], batches: Sequence[slice], writer: MapWriter
) -> Activations | NetworkError:
    """Return the activations of a layer for all images.

    The maps are written batch by batch, as they are without parts, so that their rounding has the same error.
    """
    for folder in folders:
        if (folder / ERROR).exists():
            return NetworkError((folder / ERROR).read_text(encoding="utf-8"))
    class_score = np.empty(batches[-1].stop)
    for folder, (start, stop) in zip(folders, spans, strict=True):
        part = Activations.load(folder)
        class_score[start:stop] = part.class_score
        for batch in batches:
            if start <= batch.start < stop:
                try:
                    writer.append(np.array(part.maps[:, batch.start - start : batch.stop - start]))
                except NetworkError as error:  # a value is too large for half precision
                    return error
                release(part.maps)
    maps, rounding = writer.finish()
    return Activations(maps, class_score, rounding)
