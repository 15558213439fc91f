"""Where the channels and the pixels of the maps are in a layer's output; `pipeline.networks.maps` moves them there.

It does not import torch, which takes a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ChannelAxis = Literal["first", "last"]  # axis 1, or the last axis
ChannelAxisSetting = Literal["auto", "first", "last"]  # "auto": inferred, see pipeline.networks.layout


@dataclass(frozen=True)
class PatchTokens:
    """An output of shape (n, tokens, channels) whose tokens are the patches of an image, row by row.

    Attributes
    ----------
    n_others : int
        Number of tokens before the patches: class and register tokens.
    height, width : int
        Number of patches.
    """

    n_others: int
    height: int
    width: int


@dataclass(frozen=True)
class Heads:
    """The outputs of attention heads, side by side on the last axis: each head is a channel of several units.

    Attributes
    ----------
    n_heads : int
        Number of heads, all with the same number of units.
    tokens : {"last"} or PatchTokens
        The arrangement of the units, as if each were a channel.
    """

    n_heads: int
    tokens: ChannelAxis | PatchTokens


Arrangement = ChannelAxis | PatchTokens | Heads
"""Where the channels and the pixels of the maps are in a layer's output."""


def of_units(channels: Arrangement) -> ChannelAxis | PatchTokens:
    """Return the arrangement of what a layer computes: the units of attention heads, otherwise the channels."""
    return channels.tokens if isinstance(channels, Heads) else channels


def with_all_tokens(channels: Arrangement) -> ChannelAxis:
    """Return the axis of the channels, or of the units of heads, with which maps contain all tokens."""
    units = of_units(channels)
    return "last" if isinstance(units, PatchTokens) else units


def shape_of_maps(shape: Sequence[int], channels: Arrangement) -> tuple[int, int, int]:
    """Return the number of channels, height and width of the maps that `as_maps` returns.

    Parameters
    ----------
    shape : sequence of int
        Shape of the layer's output for one image, without the batch axis: one to three sizes.
    channels : {"first", "last"}, PatchTokens or Heads
        Axis of the channels, or the arrangement of the tokens.
    """
    if isinstance(channels, Heads):
        return channels.n_heads, *shape_of_maps(shape, channels.tokens)[1:]
    if len(shape) == 1:
        return shape[0], 1, 1
    if isinstance(channels, PatchTokens):
        return shape[-1], channels.height, channels.width
    n_channels, *sizes = (shape[-1], *shape[:-1]) if channels == "last" else shape
    return n_channels, sizes[0], sizes[1] if len(sizes) > 1 else 1
