"""What a layer puts out, as maps: (n, channels, height, width), whatever the network's own order of axes.

| output | as maps |
|---|---|
| (n, c, h, w): convolutions, and all that keeps their order | itself |
| (n, h, w, c): Swin's blocks, ConvNeXt's inner layers | axes exchanged |
| (n, features): linear layers | maps of one pixel |
| (n, tokens, c): transformers | maps of tokens x 1, the class token among them |
| (n, c, length): one-dimensional convolutions | maps of length x 1 |
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Channels = Literal["first", "last"]
ChannelAxis = Literal["auto", "first", "last"]  # as a setting: "auto" is to be inferred

_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LocalResponseNorm,
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd, nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ZeroPad2d,
    nn.ReflectionPad2d, nn.ReplicationPad2d,
)  # fmt: skip
_LAST = (nn.Linear, nn.MultiheadAttention)


def only_tensor(output: object) -> torch.Tensor | None:
    """Return the one tensor that a layer puts out, alone or in a tuple beside None; None where there is no such one.

    Attention layers return their output and their weights, the latter mostly None.
    """
    parts = output if isinstance(output, tuple | list) else (output,)
    tensors = [part for part in parts if part is not None]
    return tensors[0] if len(tensors) == 1 and isinstance(tensors[0], torch.Tensor) else None


def declared_channels(module: nn.Module, shape: tuple[int, ...]) -> Channels | None:
    """Return where a module of a known kind has its channels; None where the module's kind does not tell.

    Parameters
    ----------
    module : nn.Module
        The layer.
    shape : tuple of int
        Of its output, without the batch axis.
    """
    if isinstance(module, _FIRST):
        return "first"
    if isinstance(module, _LAST):
        return "last"
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        # Subclasses called LayerNorm2d normalise axis 1; the size of what is normalised shows which.
        size = module.normalized_shape[0]
        is_first, is_last = shape[0] == size, shape[-1] == size
        if is_first and is_last:
            return "first" if type(module).__name__.endswith("2d") else "last"
        return "first" if is_first else "last" if is_last else None
    return None


def as_maps(output: torch.Tensor, channels: Channels) -> torch.Tensor:
    """Return a layer's output of two to four axes as (n, channels, height, width); see the table above."""
    if output.ndim == 2:
        return output[:, :, None, None]
    if channels == "last":
        output = output.movedim(-1, 1)
    return output if output.ndim == 4 else output.unsqueeze(-1)


def from_maps(maps: torch.Tensor, channels: Channels, n_axes: int) -> torch.Tensor:
    """Return maps in a layer's own order, with `n_axes` axes: what `as_maps` makes maps of."""
    if n_axes == 2:
        return maps[:, :, 0, 0]
    if n_axes == 3:
        maps = maps[..., 0]
    return maps.movedim(1, -1) if channels == "last" else maps


def with_tensor(output: object, tensor: torch.Tensor) -> object:
    """Return a layer's output with `tensor` in the place of its one tensor (see `only_tensor`)."""
    if isinstance(output, tuple | list):
        return type(output)(part if part is None else tensor for part in output)
    return tensor
