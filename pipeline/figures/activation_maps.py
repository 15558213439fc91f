"""Activation maps of some channels on some images, alone or over the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.arrays import FloatArray
from pipeline.figures.labels import fitted, set_footer, set_title
from pipeline.figures.style import (
    MAP_COLOURS,
    OVERLAY_COLOURS,
    FigureMaker,
    add_scale,
    hide_ticks,
    new_figure,
    show_overlay,
    show_picture,
)

CELL = 1.15  # inches
GAP = 0.35  # cells, between the best channels and the last
NAME_SIZE = 6.5  # points
NAME_HEIGHT = 0.17  # inches, for the id below an image

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class ChannelMaps:
    """The activation maps of one channel on some images.

    Attributes
    ----------
    title : str
        Title above the column of the channel.
    maps : ndarray of shape (n_images, map_height, map_width)
        Activation maps, in the units of the network.
    pictures : sequence of ndarray of shape (height, width) or (height, width, 3)
        Image of each map, as the network sees it, uint8.
    names : sequence of str
        Ids of the images.
    low, high : float
        Ends of the channel's colour scale.
    """

    title: str
    maps: FloatArray
    pictures: Sequence[Picture]
    names: Sequence[str]
    low: float
    high: float


def draw_activation_maps(
    channels: Sequence[ChannelMaps],
    n_top: int,
    question: str,
    *,
    overlay: bool,
    own_images: bool,
    make: FigureMaker = new_figure,
) -> Figure:
    """Draw a grid of maps with one column per channel, one row per image, and a colour bar below each channel.

    Parameters
    ----------
    channels : sequence of ChannelMaps
        Channels, all with the same number of images.
    n_top : int
        Number of channels at the beginning that are the best of the ranking; a gap separates them from the others. 0 if
        the channels were chosen in another way.
    question : str
        Network, layer and class, for the title.
    overlay : bool
        Whether the maps are drawn over their images.
    own_images : bool
        Whether each channel has images of its own, which are drawn beside its maps. Otherwise all channels have the
        same images, which are drawn once, in the first column.
    make : callable, default=new_figure
        Makes the empty figure.
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
    height = CELL + NAME_HEIGHT * own_images
    figure = make(CELL * sum(ratios) + 0.4, height * n_rows + 1.3, gap=0.05)
    grid = figure.add_gridspec(n_rows + 1, len(ratios), width_ratios=ratios, height_ratios=[*[1.0] * n_rows, 0.06])
    if not own_images:
        for row, (picture, name) in enumerate(zip(channels[0].pictures, channels[0].names, strict=True)):
            axes = figure.add_subplot(grid[row, 0])
            show_picture(axes, picture)
            axes.set_ylabel(fitted(name, CELL, NAME_SIZE, "start"), fontsize=NAME_SIZE)
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
                # A map of n_tokens x 1 does not show positions in the image. It may fill the cell to be visible.
                aspect: Literal["auto", "equal"] = "auto" if 1 in channel.maps[row].shape else "equal"
                axes.imshow(channel.maps[row], cmap=MAP_COLOURS, vmin=channel.low, vmax=channel.high, aspect=aspect)
                hide_ticks(axes)
            if own_images and overlay:
                _name_image(axes, channel, row)
            if row == 0:
                axes.set_title(channel.title)
        colours = OVERLAY_COLOURS if overlay else MAP_COLOURS
        add_scale(figure, figure.add_subplot(grid[n_rows, column + paired]), colours, channel.low, channel.high)
    shared = len({(channel.low, channel.high) for channel in channels}) == 1 and len(channels) > 1
    scale = "one scale for all channels" if shared else "one scale per channel"
    set_footer(figure, f"activation (units of the network, {scale})")
    what = "Activation overlays" if overlay else "Activation maps"
    which = f"the best {n_top} and last {len(channels) - n_top} channels" if n_top else "the chosen channels"
    set_title(figure, f"{what} of {which}", question)
    return figure


def _draw_named(axes: Axes, channel: ChannelMaps, row: int) -> None:
    show_picture(axes, channel.pictures[row])
    _name_image(axes, channel, row)


def _name_image(axes: Axes, channel: ChannelMaps, row: int) -> None:
    axes.set_xlabel(fitted(channel.names[row], CELL, NAME_SIZE, "start"), fontsize=NAME_SIZE, labelpad=2)
