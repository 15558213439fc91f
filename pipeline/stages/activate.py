"""activate: compute each channel's maps and each image's class score in one forward pass over the images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.arrays import Float64Array, FloatArray
from pipeline.artifacts import Activations, ImageSet, Workspace
from pipeline.artifacts.map_writer import COLLECTED, MapType, MapWriter, WritingThread
from pipeline.errors import InputError, MemoryExceededError, NetworkError
from pipeline.networks.backends import fixed_backends, keyed_backends
from pipeline.networks.examined import ExaminedNetwork, NetworkRequest
from pipeline.networks.identity import identity
from pipeline.networks.known import device_type
from pipeline.networks.layout import LayerInfo
from pipeline.networks.memory import reported_memory
from pipeline.networks.targets import output_index
from pipeline.progress import Progress
from pipeline.settings import Settings
from pipeline.stages.stage import Stage

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipeline.networks.inputs import Inputs


@dataclass(frozen=True)
class ActivateReads:
    """Settings of the stage: the network, the layer, which output is the class score, and the type of stored maps."""

    network: NetworkRequest
    dtype: MapType

    def identity(self) -> dict[str, Any]:
        """Return what determines the result, in plain JSON types; batch size and device determine the last digits."""
        request, model = self.network, self.network.model
        return {
            "network": identity(model, request.seed),
            "transform": asdict(model.transform),
            "n_input_channels": model.input_size[0],
            "batch_size": model.batch_size,
            "device": device_type(model),
            **keyed_backends(device_type(model)),
            "layer": request.layer,
            "channels": model.channels,
            "target": asdict(request.target),
            "target_class": request.target_class,
            "dtype": self.dtype,
        }


def select(settings: Settings) -> ActivateReads:
    """Return the settings of this stage; `settings` must be resolved."""
    return ActivateReads(NetworkRequest.of(settings), settings.activate.dtype)


@fixed_backends()
@reported_memory()
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
    inputs, batch_size = request.inputs(images), request.model.batch_size
    found = activations_of(examined, inputs, batch_size, workspace, progress, dtype=reads.dtype)
    check_class_score(found.class_score, class_label(request))
    return found


def class_label(request: NetworkRequest) -> str:
    """Return the output that the class score is read from, for messages."""
    kind = "output" if request.target_class is None else "class"
    return f"{kind} {output_index(request.target, request.target_class)}"


def activations_of(
    examined: ExaminedNetwork,
    inputs: Inputs,
    batch_size: int,
    workspace: Workspace,
    progress: Progress,
    *,
    dtype: MapType = "float32",
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
    dtype : {"float32", "float16"}
        Type in which the maps are stored.

    Raises
    ------
    NetworkError
        If the outputs for an image differ between passes or depend on its batch, if the layer does not run exactly once
        in a forward pass, if it does not return one row per image, if its channels are not attention heads although
        it is named so, or if an activation is too large for `dtype`.
    """
    layer = examined.layer
    (found,) = activations_of_layers(
        examined, [layer], inputs, batch_size, {layer.name: workspace}, progress, dtype=dtype
    ).values()
    if isinstance(found, NetworkError):
        raise found
    return found


@fixed_backends()
@reported_memory()
def activations_of_layers(
    examined: ExaminedNetwork,
    layers: Sequence[LayerInfo],
    inputs: Inputs,
    batch_size: int,
    workspaces: Mapping[str, Workspace],
    progress: Progress,
    *,
    dtype: MapType = "float32",
    part: slice | None = None,
) -> dict[str, Activations | NetworkError]:
    """Return the maps of several layers, and the class scores, for all images, from the same forward passes.

    The maps of a layer are the same, to the byte, as if it were the only one, provided that the layers are
    `pipeline.networks.observed.compatible`.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network and the score; its layer is not used.
    layers : sequence of LayerInfo
        The layers.
    inputs, batch_size, progress, dtype
        As in `activations_of`.
    workspaces : mapping of str to Workspace
        Storage of the maps by the name of the layer.
    part : slice, optional
        Some of the images, from the beginning of a batch to the end of one; all of them by default. The part with the
        first image includes the checks of the network.

    Returns
    -------
    dict of str to Activations or NetworkError
        For each layer its activations, or why it has none.

    Raises
    ------
    NetworkError
        If the outputs of the network differ between passes or depend on the batch.
    """
    import torch

    from pipeline.networks.capture import stream
    from pipeline.networks.consistency import N_SAMPLE
    from pipeline.networks.forward import forward
    from pipeline.networks.inputs import batches

    part = slice(0, len(inputs)) if part is None else part
    n_images, n_bytes = part.stop - part.start, COLLECTED // len(layers)
    with WritingThread() as thread:
        recorders = {
            each.name: _Recorder(
                each, MapWriter(workspaces[each.name], each.name, n_images, dtype, n_bytes, thread), thread
            )
            for each in layers
        }
        if part.start == 0:
            _check(examined, layers, recorders, inputs.read(slice(N_SAMPLE)))
        sound = [name for name, recorder in recorders.items() if recorder.error is None]
        class_score = np.empty(n_images, dtype=np.float64)
        if sound:

            def receive(name: str, output: object) -> None:
                recorders[name].receive(output)

            with torch.no_grad(), stream(examined.network, sound, receive):
                for batch, images in batches(inputs, batch_size, part):
                    within = slice(batch.start - part.start, batch.stop - part.start)
                    for name in sound:
                        recorders[name].start(within)
                    class_score[within] = examined.score(forward(examined.network, images)).cpu().numpy()
                    for name in sound:
                        recorders[name].end()
                    if all(recorders[name].error for name in sound):
                        break
                    progress(within.stop, n_images)
        return {name: recorder.error or recorder.activations(class_score) for name, recorder in recorders.items()}


def _check(
    examined: ExaminedNetwork, layers: Sequence[LayerInfo], recorders: Mapping[str, _Recorder], sample: torch.Tensor
) -> None:
    """Record which of the layers are no layers of heads or inconsistent.

    Raises
    ------
    NetworkError
        If the outputs of the network as a whole are inconsistent.
    """
    from pipeline.networks.consistency import check_consistent
    from pipeline.networks.head_outputs import check_heads

    for layer in layers:
        try:
            check_heads(examined.network, layer, sample)
        except NetworkError as error:
            recorders[layer.name].error = error
    checked = {name: recorder for name, recorder in recorders.items() if recorder.error is None}
    try:
        check_consistent(examined.network, list(checked), sample)
    except MemoryExceededError:
        raise
    except NetworkError as error:
        _find_inconsistent(examined.network, checked, sample, error)


def _find_inconsistent(
    network: nn.Module, recorders: Mapping[str, _Recorder], sample: torch.Tensor, found: NetworkError
) -> None:
    """Record which of the layers are inconsistent, given the error that they have raised together.

    Raises
    ------
    NetworkError
        If the outputs of the network as a whole are inconsistent.
    """
    from pipeline.networks.consistency import check_consistent

    if len(recorders) > 1:
        check_consistent(network, [], sample)
    for name, recorder in recorders.items():
        try:
            if len(recorders) == 1:
                raise found
            check_consistent(network, [name], sample)
        except NetworkError as error:
            recorder.error = error


def seconds_per_image(network: nn.Module, inputs: Inputs) -> float:
    """Return the time that an image takes: to read it or to run the network on it, whichever takes longer.

    It is measured on a few images. The next images are read while the network runs, see `batches`.
    """
    import torch

    from pipeline.networks.consistency import N_SAMPLE
    from pipeline.networks.forward import forward

    reading, running = [], []
    for first in (0, N_SAMPLE):  # the first time, much is slower
        start = time.perf_counter()
        sample = inputs.read(slice(first, first + N_SAMPLE))
        read = time.perf_counter()
        with torch.no_grad():
            forward(network, sample)
        reading.append((read - start) / len(sample))
        running.append((time.perf_counter() - read) / len(sample))
    return max(min(reading), min(running))


class _Recorder:
    """Writes the maps of one layer, batch by batch.

    Attributes
    ----------
    error : NetworkError or None
        Why the layer has no maps.
    """

    def __init__(self, layer: LayerInfo, writer: MapWriter, thread: WritingThread) -> None:
        assert layer.channels is not None  # a layer that can be ranked has it
        self.error: NetworkError | None = None
        self._name, self._channels, self._writer, self._thread = layer.name, layer.channels, writer, thread
        self._batch, self._n_runs = slice(0), 0

    def activations(self, class_score: Float64Array) -> Activations:
        """Return the maps of all images with their class scores."""
        maps, rounding = self._writer.finish()
        return Activations(maps, class_score, rounding)

    def start(self, batch: slice) -> None:
        """Prepare for the output for some images."""
        self._batch, self._n_runs = batch, 0

    def receive(self, output: object) -> None:
        """Write the output of the layer."""
        import torch

        from pipeline.networks.maps import as_float, as_maps, only_tensor

        self._n_runs += 1
        if self.error is not None or self._n_runs > 1:
            return
        tensor, n_images = only_tensor(output), self._batch.stop - self._batch.start
        if tensor is None:
            self.error = NetworkError(
                f"layer must return one tensor; got {type(output).__name__} (layer '{self._name}'). "
                "Choose another layer: `pcace layers` lists the layers that can be ranked."
            )
        elif len(tensor) != n_images:
            self.error = NetworkError(
                f"layer must return one row per image; got {len(tensor)} rows for {n_images} images "
                f"(layer '{self._name}'). `pcace layers` lists the layers that can be ranked."
            )
        else:
            maps = as_maps(as_float(tensor.detach()), self._channels).transpose(0, 1)
            self._thread.make_room(maps.nbytes)  # before there is a copy
            # A copy, because the network may change its output, ordered by channel.
            maps = maps.contiguous() if maps.device.type != "cpu" else maps.clone(memory_format=torch.contiguous_format)
            try:
                self._writer.append(maps.cpu().numpy())
            except NetworkError as error:
                self.error = error

    def end(self) -> None:
        """Check that the layer has run once."""
        if self.error is None and self._n_runs != 1:
            from pipeline.networks.capture import runs_error

            self.error = runs_error(self._name, self._n_runs)


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
