"""Where channels light up: activation maps of some channels on some images, raw and laid over the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.arrays import FloatArray
from pipeline.figures.style import (
    MAP_COLOURS,
    OVERLAY_COLOURS,
    add_scale,
    hide_ticks,
    new_figure,
    short_id,
    show_overlay,
    show_picture,
)

CELL = 1.15  # inches
GAP = 0.35  # cells, between the best channels and the last

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class ChannelMaps:
    """One channel on some images.

    Attributes
    ----------
    title : str
        Above the channel.
    maps : ndarray of shape (n_images, map_height, map_width)
        The network's own units.
    pictures : sequence of ndarray of shape (height, width) or (height, width, 3)
        What the network saw, uint8: the image of each map.
    names : sequence of str
        The images' names.
    low, high : float
        The ends of the channel's colour scale.
    """

    title: str
    maps: FloatArray
    pictures: Sequence[Picture]
    names: Sequence[str]
    low: float
    high: float


def draw_activation_maps(
    channels: Sequence[ChannelMaps], n_top: int, title: str, *, overlay: bool, own_images: bool
) -> Figure:
    """Return a grid: a column per channel, a row per image, a colour bar below each channel.

    Parameters
    ----------
    channels : sequence of ChannelMaps
        Each with the same number of images.
    n_top : int
        How many of the channels are the best; a gap parts them from the rest.
    title : str
        The question, above all.
    overlay : bool
        Whether the maps are laid over their images.
    own_images : bool
        Whether each channel shows images of its own (and, beside raw maps, the images), or all the same ones, which
        then stand once, in the first column.
    """
    n_rows = len(channels[0].maps)
    paired = own_images and not overlay
    ratios: list[float] = [] if own_images else [1.0]
    places = []
    for index in range(len(channels)):
        if 0 < n_top == index:
            ratios.append(GAP)
        elif paired and index:
            ratios.append(GAP / 3)
        places.append(len(ratios))
        ratios += [1.0, 1.0] if paired else [1.0]
    figure = new_figure(CELL * sum(ratios) + 0.4, CELL * n_rows + 1.15)
    grid = figure.add_gridspec(n_rows + 1, len(ratios), width_ratios=ratios, height_ratios=[*[1.0] * n_rows, 0.06])
    if not own_images:
        for row, (picture, name) in enumerate(zip(channels[0].pictures, channels[0].names, strict=True)):
            axes = figure.add_subplot(grid[row, 0])
            show_picture(axes, picture)
            axes.set_ylabel(short_id(name), fontsize=7)
            if row == 0:
                axes.set_title("image")
    for channel, column in zip(channels, places, strict=True):
        for row in range(n_rows):
            if paired:
                _draw_named(figure.add_subplot(grid[row, column]), channel, row)
            axes = figure.add_subplot(grid[row, column + paired])
            if overlay:
                show_overlay(axes, channel.pictures[row], channel.maps[row], channel.low, channel.high)
            else:
                # A map of tokens x 1 would be a hair: it has no places, so it may fill the cell.
                aspect: Literal["auto", "equal"] = "auto" if 1 in channel.maps[row].shape else "equal"
                axes.imshow(channel.maps[row], cmap=MAP_COLOURS, vmin=channel.low, vmax=channel.high, aspect=aspect)
                hide_ticks(axes)
            if own_images and overlay:
                axes.set_xlabel(short_id(channel.names[row]), fontsize=6.5, labelpad=2)
            if row == 0:
                axes.set_title(channel.title)
        colours = OVERLAY_COLOURS if overlay else MAP_COLOURS
        add_scale(figure, figure.add_subplot(grid[n_rows, column + paired]), colours, channel.low, channel.high)
    shared = len({(channel.low, channel.high) for channel in channels}) == 1 and len(channels) > 1
    scale = "one scale for all channels" if shared else "one scale per channel"
    figure.supxlabel(f"activation (the network's own units, {scale})", fontsize=8)
    figure.suptitle(title)
    return figure


def _draw_named(axes: Axes, channel: ChannelMaps, row: int) -> None:
    show_picture(axes, channel.pictures[row])
    axes.set_xlabel(short_id(channel.names[row]), fontsize=6.5, labelpad=2)
