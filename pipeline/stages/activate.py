"""activate: compute each channel's maps and each image's class score in one forward pass over the images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from pipeline.arrays import FloatArray
from pipeline.artifacts import Activations, ImageSet, Workspace
from pipeline.errors import InputError, NetworkError
from pipeline.networks.capture import capture
from pipeline.networks.consistency import N_SAMPLE, check_consistent
from pipeline.networks.examined import ExaminedNetwork, NetworkRequest
from pipeline.networks.forward import forward
from pipeline.networks.head_outputs import check_heads
from pipeline.networks.identity import identity
from pipeline.networks.inputs import Inputs, batches
from pipeline.networks.load import resolve_device
from pipeline.networks.maps import as_maps
from pipeline.networks.targets import output_index
from pipeline.progress import Progress
from pipeline.settings import Settings
from pipeline.stages.stage import Stage


@dataclass(frozen=True)
class ActivateReads:
    """Settings of the stage: the network, the layer, and which output is the class score."""

    network: NetworkRequest

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, in plain JSON types; batch size and device determine the last digits."""
        request, model = self.network, self.network.model
        return {
            "network": identity(model, request.seed),
            "transform": asdict(model.transform),
            "n_input_channels": model.input_size[0],
            "batch_size": model.batch_size,
            "device": resolve_device(model).type,
            "layer": request.layer,
            "channels": model.channels,
            "target": asdict(request.target),
            "target_class": request.target_class,
            "dtype": "float32",
        }


def select(settings: Settings) -> ActivateReads:
    """Return the settings of this stage; `settings` must be resolved."""
    return ActivateReads(NetworkRequest.of(settings))


def run(reads: ActivateReads, *, images: ImageSet, workspace: Workspace, progress: Progress) -> Activations:
    """Return the layer's maps and the class scores.

    Raises
    ------
    NetworkError
        If the layer cannot be ranked (see `pipeline.networks.layout`), or if the outputs for an image differ between
        passes or depend on its batch.
    InputError
        If the class scores are not finite, or equal for all images, so that no correlation is defined.
    """
    request = reads.network
    examined = request.open()
    found = activations_of(examined, request.inputs(images), request.model.batch_size, workspace, progress)
    kind = "output" if request.target_class is None else "class"
    check_class_score(found.class_score, f"{kind} {output_index(request.target, request.target_class)}")
    return found


def activations_of(
    examined: ExaminedNetwork, inputs: Inputs, batch_size: int, workspace: Workspace, progress: Progress
) -> Activations:
    """Return the maps of the examined layer, and the class scores, for all images.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer and the score.
    inputs : Inputs
        The images.
    batch_size : int
        Largest number of images in a forward pass.
    workspace : Workspace
        Storage of the maps: a folder or memory.
    progress : callable
        Called with the number of images done and the number of all images.

    Raises
    ------
    NetworkError
        If the outputs for an image differ between passes or depend on its batch, if the layer does not run exactly once
        in a forward pass, if it does not return one row per image, or if its channels are not attention heads although
        it is named so.
    """
    layer, n_images = examined.layer.name, len(inputs)
    check_heads(examined.network, examined.layer, inputs.read(slice(N_SAMPLE)))
    check_consistent(examined.network, layer, inputs.read(slice(N_SAMPLE)))
    class_score = np.empty(n_images, dtype=np.float64)
    maps = None
    with torch.no_grad(), capture(examined.network, layer) as captured:
        for batch, images in batches(inputs, batch_size):
            outputs = forward(examined.network, images)
            output = captured.take()
            if len(output) != len(images):
                raise NetworkError(
                    f"layer must return one row per image; got {len(output)} rows for {len(images)} images "
                    f"(layer '{layer}'). `python -m pipeline.layers` lists the layers that can be ranked."
                )
            output = as_maps(output, examined.channels)
            if maps is None:
                n_channels, height, width = output.shape[1:]
                maps = workspace.empty(Activations.MAPS, (n_channels, n_images, height, width))
            maps[:, batch] = output.transpose(0, 1).cpu().numpy()
            class_score[batch] = examined.score(outputs).cpu().numpy()
            progress(batch.stop, n_images)
    assert maps is not None  # there is at least one image
    return Activations(maps, class_score)


def check_class_score(class_score: FloatArray, of: str) -> None:
    """Raise `InputError` if the class scores do not allow any correlation; `of` names the output for the message."""
    context = f"{of}, {len(class_score)} images"
    if not np.isfinite(class_score).all():
        n_bad = int((~np.isfinite(class_score)).sum())
        raise InputError(
            f"class scores must be finite; got {n_bad} that are not finite ({context}). "
            "Check the weights and the transform."
        )
    if np.ptp(class_score) == 0:
        raise InputError(
            f"class scores must differ between images; got {class_score[0]:g} for every image ({context}). "
            "Check that the weights are trained, the images differ and the transform suits the network."
        )


STAGE = Stage("activate", 5, "images", Activations, select, run)
