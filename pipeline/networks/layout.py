"""The layers of a network: their names, the shapes of their outputs, and which of them can be ranked.

`pipeline.networks.layout_pass` finds them. This module does not import torch, which takes a second.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace

from pipeline.errors import NetworkError, listed
from pipeline.networks.arrangement import Arrangement, shape_of_maps


@dataclass(frozen=True)
class LayerInfo:
    """One module of a network, as observed in a forward pass.

    Attributes
    ----------
    name : str
        Dotted path, e.g. ``layer4.1.conv2``.
    type : str
        Class name, e.g. ``Conv2d``.
    shape : tuple of int or None
        Shape of its output for one image, without the batch axis; None if the output is not one tensor with one row per
        image.
    calls : int
        Number of times it runs in one forward pass.
    channels : {"first", "last"}, PatchTokens, Heads or None
        Axis of its channels (axis 1 or the last axis), or the arrangement of its tokens or heads; None if it cannot be
        inferred.
    is_complex : bool
        Whether its output consists of complex numbers.
    depth : float
        Share of the network's elementary modules (those without modules inside them) that have run before the layer's
        last one, from 0 for the first to 1 for the last.
    output : int
        Number that identifies the tensor that it returns: modules with the same number return the same tensor.
    scaled : int or None
        For a batch normalisation that multiplies each channel by a number and adds another one: the number of the
        tensor that it is applied to. None for other modules.
    is_scores : bool
        Whether its output are the network's scores.
    is_convolution : bool
        Whether it is a convolution of any dimension, also of a class derived from one of PyTorch's.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None
    calls: int
    channels: Arrangement | None
    is_complex: bool = False
    depth: float = 0.0
    output: int = -1
    scaled: int | None = None
    is_scores: bool = False
    is_convolution: bool = False

    @property
    def rejection(self) -> str | None:
        """What prevents the layer from being ranked, for an error message; None if it can be ranked."""
        if self.calls != 1:
            return f"{self.calls} calls in one forward pass"
        if self.shape is None:
            return "an output that is not one tensor with one row per image"
        shape = f"shape ({', '.join(map(str, ('n', *self.shape)))})"
        if not 1 <= len(self.shape) <= 3 or 0 in self.shape:
            return shape
        if self.is_complex:
            return f"complex numbers of {shape}"
        if self.channels is None:
            return f"{shape}, in which the axis of the channels cannot be inferred"
        return None

    @property
    def maps(self) -> tuple[int, int, int]:
        """Number of channels, height and width of its maps; defined only for a layer that can be ranked."""
        assert self.rejection is None
        assert self.shape is not None
        assert self.channels is not None
        return shape_of_maps(self.shape, self.channels)


@dataclass(frozen=True)
class NetworkLayout:
    """The layers of a network and the number of its outputs.

    Attributes
    ----------
    layers : tuple of LayerInfo
        The modules that run in a forward pass, in the order in which they first end.
    n_outputs : int
        Number of outputs (classes).
    """

    layers: tuple[LayerInfo, ...]
    n_outputs: int

    def rankable(self) -> list[LayerInfo]:
        """Return the layers that can be ranked."""
        return [layer for layer in self.layers if layer.rejection is None]

    def find(self, name: str) -> LayerInfo:
        """Return a layer by its name.

        Parameters
        ----------
        name : str
            Dotted path; see `canonical_name`.

        Raises
        ------
        NetworkError
            If there is no such layer (the message lists the nearest names), or if it cannot be ranked.
        """
        layer = next((layer for layer in self.layers if layer.name == name), None)
        if layer is None:
            names = [layer.name for layer in self.rankable()]
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[-3:]
            raise NetworkError(
                f"layer must be one of the network's layers; got '{name}'. Nearest: {listed(near) or 'none'}. "
                "`pcace layers` lists all."
            )
        if layer.rejection is not None:
            lacks_axis_only = layer.channels is None and replace(layer, channels="first").rejection is None
            hint = (
                "Set model.channels=first or last."
                if lacks_axis_only
                else "`pcace layers` lists the layers that can be ranked."
            )
            raise NetworkError(
                "layer must return (n, channels, height, width), (n, tokens, channels) or (n, features), in one call "
                f"per forward pass; got {layer.rejection} (layer '{name}', {layer.type}). {hint}"
            )
        return layer


def canonical_name(layer: str) -> str:
    """Return the dotted path of a layer: ``layer4.1.conv2`` for ``layer4[1].conv2``."""
    return re.sub(r"\[(\d+)\]", r".\1", layer)
