"""activate: one forward pass over the images gives every channel's maps and every image's class score."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.artifacts import Activations, FloatArray, ImageSet, create_maps, save_array
from pipeline.errors import InputError, NetworkError
from pipeline.networks.capture import capture
from pipeline.networks.inputs import load_batch, to_input
from pipeline.networks.layers import layout
from pipeline.networks.load import identity, load, resolve_device
from pipeline.networks.maps import as_maps
from pipeline.networks.targets import output_index, target_scores
from pipeline.progress import Progress
from pipeline.settings import ModelSettings, Settings, TargetSettings

VERSION = 2


@dataclass(frozen=True)
class ActivateReads:
    """What the stage reads: the network, the layer, and which of its outputs is the score."""

    model: ModelSettings
    layer: str
    target: TargetSettings
    target_class: int | None
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, in plain JSON types; the batch size and the device move the last digits."""
        return {
            "network": identity(self.model, self.seed),
            "transform": asdict(self.model.transform),
            "n_input_channels": self.model.input_size[0],
            "batch_size": self.model.batch_size,
            "device": resolve_device(self.model).type,
            "layer": self.layer,
            "channels": self.model.channels,
            "target": asdict(self.target),
            "target_class": self.target_class,
            "dtype": "float32",
        }


def select(settings: Settings) -> ActivateReads:
    """Pick what this stage reads; `settings` must be resolved."""
    return ActivateReads(settings.model, settings.layer, settings.target, settings.target_class, settings.seed)


def run(reads: ActivateReads, images: ImageSet, *, folder: Path, progress: Progress) -> Activations:
    """Return the layer's maps and the class scores, written below `folder`.

    Raises
    ------
    NetworkError
        If the layer cannot be ranked: see `pipeline.networks.layers`.
    InputError
        If the class scores are not finite, or all the same: then there is nothing to correlate with.
    """
    channels = layout(reads.model).find(reads.layer).channels
    assert channels is not None
    network = load(reads.model, reads.seed)
    device = resolve_device(reads.model)
    transform = to_input(reads.model)
    class_score = np.empty(len(images), dtype=np.float64)
    maps = None
    with torch.inference_mode(), capture(network, reads.layer) as captured:
        for batch in batches(len(images), reads.model.batch_size):
            inputs = load_batch(images.paths[batch], reads.model, transform).to(device)
            outputs = network(inputs)
            output = captured.take()
            if len(output) != len(inputs):
                raise NetworkError(
                    f"layer must put out a row an image; got {len(output)} for {len(inputs)} images "
                    f"(layer '{reads.layer}'). `python -m pipeline.layers` lists those that can be ranked."
                )
            output = as_maps(output, channels)
            if maps is None:
                n_channels, height, width = output.shape[1:]
                maps = create_maps(folder, (n_channels, len(images), height, width))
            maps[:, batch] = output.transpose(0, 1).cpu().numpy()
            class_score[batch] = target_scores(outputs, reads.target, reads.target_class).cpu().numpy()
            progress(batch.stop, len(images))
    assert maps is not None
    what = "output" if reads.target_class is None else "class"
    _check_class_score(class_score, f"{what} {output_index(reads.target, reads.target_class)}")
    save_array(folder / Activations.CLASS_SCORE, class_score)
    maps.flush()  # type: ignore[attr-defined]
    return Activations(maps, class_score)


def batches(n_images: int, batch_size: int) -> list[slice]:
    """Split the images into as few batches of at most `batch_size` as it takes, all of nearly one size.

    A small last batch would be computed by other kernels than the rest, with other last digits (up to 3e-6), and
    ACE is sensitive to these: see docs/decisions/0003-last-digits-matter.md.
    """
    edges = np.linspace(0, n_images, -(-n_images // batch_size) + 1).round().astype(int)
    return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(edges)]


def _check_class_score(class_score: FloatArray, of: str) -> None:
    context = f"{of}, {len(class_score)} images"
    if not np.isfinite(class_score).all():
        n_bad = int((~np.isfinite(class_score)).sum())
        raise InputError(
            f"class scores must be finite; got {n_bad} that are not ({context}). Check the weights and the transform."
        )
    if np.ptp(class_score) == 0:
        raise InputError(
            f"class scores must differ between images; got {class_score[0]:g} for every one ({context}). "
            "Check that the weights are trained, the images differ and the transform suits the network."
        )
