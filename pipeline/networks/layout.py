"""A network's layers: their names, what they put out, and which of them can be ranked."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks.hooks import attached
from pipeline.networks.maps import ChannelAxis, Channels, as_maps, declared_channels, only_tensor

UNTOLD = "with no telling which axis the channels are"


@dataclass(frozen=True)
class LayerInfo:
    """One module of a network, as seen in a forward pass.

    Attributes
    ----------
    name : str
        Dotted path, e.g. ``layer4.1.conv2``.
    type : str
        Class name, e.g. ``Conv2d``.
    shape : tuple of int or None
        What it puts out for one image, without the batch axis; None where that is not one tensor with that axis.
    calls : int
        How often it runs in one pass.
    channels : {"first", "last"} or None
        Where its channels are; None where nothing tells.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None
    calls: int
    channels: Channels | None

    @property
    def refusal(self) -> str | None:
        """Why it cannot be ranked, None where it can."""
        if self.calls != 1:
            return f"{self.calls} runs in one pass"
        if self.shape is None:
            return "something other than one tensor with a row an image"
        if not 1 <= len(self.shape) <= 3 or 0 in self.shape:
            return f"shape {('n', *self.shape)}".replace("'", "")
        if self.channels is None:
            return f"shape {('n', *self.shape)} {UNTOLD}".replace("'", "")
        return None

    @property
    def maps(self) -> tuple[int, int, int]:
        """Number of channels, height and width of its maps; only where it can be ranked."""
        assert self.refusal is None
        assert self.shape is not None
        assert self.channels is not None
        n_channels, height, width = as_maps(torch.empty((1, *self.shape), device="meta"), self.channels).shape[1:]
        return n_channels, height, width


@dataclass(frozen=True)
class NetworkLayout:
    """The layers in the order in which they first run, and the number of outputs (classes)."""

    layers: tuple[LayerInfo, ...]
    n_outputs: int

    def rankable(self) -> list[LayerInfo]:
        """Return the layers that can be ranked."""
        return [layer for layer in self.layers if layer.refusal is None]

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
        if layer.refusal is not None:
            is_untold = layer.refusal.endswith(UNTOLD)
            hint = "Set model.channels=first or last." if is_untold else "`python -m pipeline.layers` lists others."
            raise NetworkError(
                "layer must put out (n, channels, height, width), (n, tokens, channels) or (n, features), once a pass; "
                f"got {layer.refusal} (layer '{name}', {layer.type}). {hint}"
            )
        return layer


def canonical_name(layer: str) -> str:
    """Return the dotted spelling of a layer: ``layer4[1].conv2`` and ``layer4.1.conv2`` are the same one."""
    return re.sub(r"\[(\d+)\]", r".\1", layer)


def layout(network: nn.Module, example: torch.Tensor, channels: ChannelAxis = "auto") -> NetworkLayout:
    """Return the layers of a network, found in one forward pass.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    example : tensor of shape (n_images, ...)
        A batch of inputs, on the network's device; their values do not matter. Take two images or more: with one image,
        an output without a batch axis could be mistaken for one that has it.
    channels : {"auto", "first", "last"}
        Where a layer's channels are: on axis 1, on the last axis, or inferred from the kinds of the modules.

    Raises
    ------
    NetworkError
        If the network does not put out one row of scores for each image.
    """
    trace = _Trace(network, example)
    return NetworkLayout(trace.layers(channels), trace.n_outputs)


class _Trace:
    """What every module put out in one pass, in the order in which the modules ended."""

    def __init__(self, network: nn.Module, images: torch.Tensor) -> None:
        self._n_images = len(images)
        self._modules = {name: module for name, module in network.named_modules() if name}
        self._seen: list[tuple[str, tuple[int, ...] | None]] = []
        hooks = attached(
            module.register_forward_hook(lambda _m, _i, output, name=name: self._note(name, output))
            for name, module in self._modules.items()
        )
        with hooks, torch.inference_mode():
            output = network(images)
        if not isinstance(output, torch.Tensor) or output.ndim not in (1, 2) or len(output) != len(images):
            what = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
            raise NetworkError(
                f"the network must put out one row of scores per image, (n, n_outputs) or (n,); got {what} "
                f"for {len(images)} images. Wrap it in a module that returns the scores."
            )
        self.n_outputs = output.shape[1] if output.ndim == 2 else 1

    def _note(self, name: str, output: object) -> None:
        tensor = only_tensor(output)
        has_rows = tensor is not None and tensor.ndim >= 2 and len(tensor) == self._n_images
        self._seen.append((name, tuple(tensor.shape[1:]) if tensor is not None and has_rows else None))

    def layers(self, channels: ChannelAxis) -> tuple[LayerInfo, ...]:
        """Return every module that ran, in the order in which they first ended."""
        found: dict[str, list[tuple[int, tuple[int, ...] | None]]] = defaultdict(list)
        for place, (name, shape) in enumerate(self._seen):
            found[name].append((place, shape))
        infos = []
        for name, calls in found.items():
            place, shape = calls[-1]
            where = channels if channels != "auto" else self._channels(place)
            infos.append(LayerInfo(name, type(self._modules[name]).__name__, shape, len(calls), where))
        return tuple(infos)

    def _channels(self, place: int) -> Channels | None:
        """Return where the module that ended at `place` has its channels.

        A module of a known kind says so itself. Activations, drop-outs and blocks keep the order of what they were
        given: theirs is that of the nearest module of a known kind with an output of that very shape, before them
        if there is one (a block ends after all that is in it), else after.
        """
        shape = self._seen[place][1]
        if shape is None or len(shape) == 1:
            return "first"
        before = reversed(range(place + 1))
        for other in (*before, *range(place + 1, len(self._seen))):
            module, other_shape = self._seen[other]
            if other_shape == shape and (told := declared_channels(self._modules[module], shape)) is not None:
                return told
        return None
