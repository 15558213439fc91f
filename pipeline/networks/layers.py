"""A network's layers: their names, what they put out, and which of them can be ranked."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks.load import build
from pipeline.settings import ModelSettings


@dataclass(frozen=True)
class LayerInfo:
    """One module of a network, as seen in a forward pass of one image.

    Attributes
    ----------
    name : str
        Dotted path, e.g. ``layer4.1.conv2``.
    type : str
        Class name, e.g. ``Conv2d``.
    shape : tuple of int or None
        What it puts out for one image, without the batch axis; None where that is not one tensor.
    calls : int
        How often it runs in one pass.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None
    calls: int

    @property
    def is_rankable(self) -> bool:
        """Whether the layer puts out (channels, height, width), once a pass."""
        return self.shape is not None and len(self.shape) == 3 and self.calls == 1


@dataclass(frozen=True)
class NetworkLayout:
    """The layers in the order in which they first run, and the number of outputs (classes)."""

    layers: tuple[LayerInfo, ...]
    n_outputs: int

    def rankable(self) -> list[LayerInfo]:
        """Return the layers that can be ranked."""
        return [layer for layer in self.layers if layer.is_rankable]

    def find(self, name: str) -> LayerInfo:
        """Return the layer called `name` (see `canonical_name`).

        Raises
        ------
        NetworkError
            If there is none (the nearest names are listed), or if it cannot be ranked.
        """
        layer = next((layer for layer in self.layers if layer.name == name), None)
        if layer is None:
            names = [layer.name for layer in self.rankable()]
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[-3:]
            raise NetworkError(
                f"layer must be one of the network's layers; got '{name}'. Nearest: {listed(near)}. "
                "`python -m pipeline.layers` lists all."
            )
        if not layer.is_rankable:
            if layer.calls != 1:
                what = f"{layer.calls} runs in one pass"
            elif layer.shape is None:
                what = "something other than one tensor"
            else:
                what = f"shape {('n', *layer.shape)}".replace("'", "")
            raise NetworkError(
                f"layer must put out (n, channels, height, width) once a pass; got {what} "
                f"(layer '{name}', {layer.type}). Choose another: `python -m pipeline.layers` lists them."
            )
        return layer


def canonical_name(layer: str) -> str:
    """Return the dotted spelling of a layer: ``layer4[1].conv2`` and ``layer4.1.conv2`` are the same one."""
    return re.sub(r"\[(\d+)\]", r".\1", layer)


def layout(model: ModelSettings) -> NetworkLayout:
    """Return the layers of a network, from one pass of an empty image; no weights are loaded or downloaded.

    The pass runs on torch's ``meta`` device, where tensors have shapes but no values, so that even VGG-16 takes
    no memory and next to no time. A network of your own that needs values is built on the CPU instead.
    """
    try:
        with torch.device("meta"):
            return _trace(build(model, seed=0), torch.empty((1, *model.input_size)))
    except (NotImplementedError, RuntimeError):
        return _trace(build(model, seed=0), torch.zeros((1, *model.input_size)))


def _trace(network: nn.Module, image: torch.Tensor) -> NetworkLayout:
    """Run `image` through, noting what every module puts out."""
    shapes: dict[str, list[tuple[int, ...] | None]] = defaultdict(list)
    types = {name: type(module).__name__ for name, module in network.named_modules() if name}

    def note(name: str, output: object) -> None:
        shapes[name].append(tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else None)

    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name, module in network.named_modules()
        if name
    ]
    try:
        with torch.inference_mode():
            output = network(image)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(output, torch.Tensor) or output.ndim != 2:
        what = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
        raise NetworkError(
            f"the network must put out one row of class scores per image, (n, n_classes); got {what}. "
            "Wrap it in a module that returns the class scores."
        )
    layers = tuple(LayerInfo(name, types[name], found[-1], len(found)) for name, found in shapes.items())
    return NetworkLayout(layers, output.shape[1])
