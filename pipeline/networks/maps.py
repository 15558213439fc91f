"""The output of a layer as maps, (n, channels, height, width), for any layout of its axes.

| output | as maps |
|---|---|
| (n, c, h, w): convolutions, and layers that keep their layout | unchanged |
| (n, h, w, c): Swin's blocks, ConvNeXt's inner layers | axes exchanged |
| (n, features): linear layers | maps of one pixel |
| (n, tokens, c): transformers | maps of the patches, without class and register tokens; tokens x 1 if unknown |
| (n, c, length): one-dimensional convolutions | maps of length x 1 |
| the outputs of attention heads, side by side on the last axis | the norm of each head's output for each token |
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.networks.arrangement import Arrangement, ChannelAxis, Heads, PatchTokens

_FIRST = (
    nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LocalResponseNorm,
    nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd, nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ZeroPad2d,
    nn.ReflectionPad2d, nn.ReplicationPad2d,
)  # fmt: skip
_LAST = (nn.Linear, nn.MultiheadAttention)
# Parts of the names of the packages of quantised modules, which are not subclasses of the modules above.
_QUANTISED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.")


def only_tensor(output: object) -> torch.Tensor | None:
    """Return the tensor in a layer's output, or None if there is not exactly one.

    The output is the tensor itself, or a tuple or list of the tensor and None: attention layers return their output and
    their attention weights, which are None unless requested. A sparse or nested tensor is not such a tensor.
    """
    parts = output if isinstance(output, tuple | list) else (output,)
    tensors = [part for part in parts if part is not None]
    if len(tensors) != 1 or not isinstance(tensors[0], torch.Tensor):
        return None
    (tensor,) = tensors
    return tensor if tensor.layout is torch.strided and not tensor.is_nested else None


def as_float(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of real numbers as float32, or unchanged if it is float64.

    NumPy has no bfloat16, and quantised tensors have hardly any arithmetic.
    """
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def as_before(tensor: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
    """Return a tensor of floats in the number format of another one: the inverse of `as_float`.

    Quantised numbers are rounded to the levels of the original.
    """
    if original.is_quantized:
        return torch.quantize_per_tensor(tensor, original.q_scale(), original.q_zero_point(), original.dtype)
    return tensor.to(original.dtype)


def is_quantised(module: nn.Module) -> bool:
    """Return whether a module computes with quantised weights."""
    return type(module).__module__.startswith(_QUANTISED)


def declared_channels(module: nn.Module, shape: tuple[int, ...]) -> ChannelAxis | None:
    """Return the axis of a module's channels, or None if the type of the module does not determine it.

    Parameters
    ----------
    module : Module
        The layer.
    shape : tuple of int
        Shape of its output, without the batch axis.
    """
    if isinstance(module, _FIRST):
        return "first"
    if isinstance(module, _LAST):
        return "last"
    if is_quantised(module):
        name = type(module).__name__
        return "last" if "Linear" in name else "first" if "Conv" in name or "BatchNorm" in name else None
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        # torchvision's LayerNorm2d, a subclass, normalises axis 1. If the sizes differ, they show the axis; if they are
        # equal, the name does.
        size = module.normalized_shape[0]
        is_first, is_last = shape[0] == size, shape[-1] == size
        if is_first and is_last:
            return "first" if type(module).__name__.endswith("2d") else "last"
        return "first" if is_first else "last" if is_last else None
    return None


def as_maps(output: torch.Tensor, channels: Arrangement) -> torch.Tensor:
    """Return a layer's output as maps, (n, channels, height, width); see the table above.

    Parameters
    ----------
    output : tensor
        The layer's output, with two to four axes.
    channels : {"first", "last"}, PatchTokens or Heads
        Axis of the channels, or the arrangement of the tokens. The map of a head is the Euclidean norm of its output.
    """
    if isinstance(channels, Heads):
        units = as_maps(output, channels.tokens)
        by_head = units.reshape(len(units), channels.n_heads, -1, *units.shape[2:])
        norms: torch.Tensor = torch.linalg.vector_norm(by_head, dim=2)
        return norms
    if output.ndim == 2:
        return output[:, :, None, None]
    if isinstance(channels, PatchTokens):
        patches = output[:, channels.n_others :].movedim(-1, 1)
        return patches.reshape(*patches.shape[:2], channels.height, channels.width)
    if channels == "last":
        output = output.movedim(-1, 1)
    return output if output.ndim == 4 else output.unsqueeze(-1)


def from_maps(maps: torch.Tensor, channels: ChannelAxis, n_axes: int) -> torch.Tensor:
    """Return maps in the layout of a layer's output: the inverse of `as_maps`.

    Parameters
    ----------
    maps : tensor of shape (n, channels, height, width)
        The maps.
    channels : {"first", "last"}
        Axis of the channels in the layer's output.
    n_axes : int
        Number of axes of the layer's output.
    """
    if n_axes == 2:
        return maps[:, :, 0, 0]
    if n_axes == 3:
        maps = maps[..., 0]
    return maps.movedim(1, -1) if channels == "last" else maps


def with_tensor(output: object, tensor: torch.Tensor) -> object:
    """Return a layer's output with its tensor (see `only_tensor`) replaced by `tensor`."""
    if isinstance(output, tuple | list):
        return type(output)(part if part is None else tensor for part in output)
    return tensor
