"""Where channels light up: activation maps of chosen channels on chosen images, each image beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.figures.style import MAP_COLOURS, hide_ticks, new_figure

CELL = 1.15  # inches


def draw_activation_maps(
    pictures: Sequence[NDArray[np.uint8]],
    picture_names: Sequence[str],
    maps: Sequence[NDArray[np.floating[Any]]],
    titles: Sequence[str],
    n_top: int,
    title: str,
) -> Figure:
    """Return a grid: a row per image, the image first, then a column per channel with its colour bar below.

    Parameters
    ----------
    pictures : sequence of ndarray of shape (height, width) or (height, width, 3)
        What the network saw, uint8.
    picture_names : sequence of str
        One per picture.
    maps : sequence of ndarray of shape (n_pictures, map_height, map_width)
        One per channel; a column's maps share one scale, so that its images can be compared.
    titles : sequence of str
        One per channel.
    n_top : int
        How many of the channels are the best; a gap parts them from the rest.
    title : str
        The question, above all.
    """
    n_rows, n_columns = len(pictures), len(maps)
    gap = 0.35 if 0 < n_top < n_columns else 0.0
    ratios = [1.0, *[1.0] * n_top, *([gap] if gap else []), *[1.0] * (n_columns - n_top)]
    figure = new_figure(CELL * sum(ratios) + 0.4, CELL * n_rows + 1.15)
    grid = figure.add_gridspec(n_rows + 1, len(ratios), width_ratios=ratios, height_ratios=[*[1.0] * n_rows, 0.06])
    for row, (picture, name) in enumerate(zip(pictures, picture_names, strict=True)):
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(picture, cmap="gray" if picture.ndim == 2 else None)
        axes.set_ylabel(name, fontsize=7)
        hide_ticks(axes)
        if row == 0:
            axes.set_title("image")
    for index, (channel_maps, channel_title) in enumerate(zip(maps, titles, strict=True)):
        column = 1 + index + (1 if gap and index >= n_top else 0)
        low, high = float(channel_maps.min()), float(channel_maps.max())
        for row in range(n_rows):
            axes = figure.add_subplot(grid[row, column])
            shown = axes.imshow(channel_maps[row], cmap=MAP_COLOURS, vmin=low, vmax=high)
            hide_ticks(axes)
            if row == 0:
                axes.set_title(channel_title)
        bar = figure.colorbar(shown, cax=figure.add_subplot(grid[n_rows, column]), orientation="horizontal")
        bar.outline.set_visible(False)
        bar.set_ticks([low, high] if high > low else [low])
        bar.ax.set_xticklabels([f"{value:.2g}" for value in bar.get_ticks()], fontsize=7)
    figure.suptitle(title)
    figure.supxlabel("activation (the network's own units, one scale per channel)", fontsize=8)
    return figure
