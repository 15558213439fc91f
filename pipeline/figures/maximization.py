"""What channels ask for: the input found for each, beside the real image that drives it most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.figures.style import BLUE, GREY, hide_ticks, new_figure, short_id, show_picture
from pipeline.networks.maximization import Maximized

CELL = 1.35  # inches


def draw_maximization(
    found: Maximized,
    real: Sequence[NDArray[np.uint8]],
    titles: Sequence[str],
    real_names: Sequence[str],
    title: str,
) -> Figure:
    """Return a column per channel: the input found, the best real image, and the activation each reaches.

    Parameters
    ----------
    found : Maximized
        The inputs found and what they reach.
    real : sequence of ndarray of shape (height, width) or (height, width, 3)
        The image that drives each channel most, uint8.
    titles, real_names : sequence of str
        One per channel; the real images' names.
    title : str
        The question, above all.
    """
    n_channels = len(found.pictures)
    figure = new_figure(CELL * n_channels + 0.7, CELL * 2 + 1.6)
    grid = figure.add_gridspec(3, n_channels, height_ratios=[1, 1, 0.4])
    for column in range(n_channels):
        axes = figure.add_subplot(grid[0, column])
        show_picture(axes, found.pictures[column])
        axes.set_title(titles[column])
        if column == 0:
            axes.set_ylabel("found", fontsize=8)
        axes = figure.add_subplot(grid[1, column])
        show_picture(axes, real[column])
        axes.set_xlabel(short_id(real_names[column]), fontsize=6.5, labelpad=2)
        if column == 0:
            axes.set_ylabel("best real image", fontsize=8)
        axes = figure.add_subplot(grid[2, column])
        values = [float(found.best_real[column]), float(found.reached[column])]
        axes.barh([0, 1], values, color=[GREY, BLUE], height=0.75)
        axes.axvline(0, color="0.3", linewidth=0.6)
        axes.set_yticks([0, 1], ["real", "found"] if column == 0 else ["", ""], fontsize=7)
        low, high = min(0.0, *values), max(0.0, *values)
        axes.set_xlim(low - 0.45 * (high - low) * (low < 0), high + 0.45 * (high - low) * (high > 0))
        for place, value in enumerate(values):
            axes.annotate(
                f"{value:.2f}", (value, place), xytext=(2 if value >= 0 else -2, 0), textcoords="offset points",
                va="center", ha="left" if value >= 0 else "right", fontsize=6.5,
            )  # fmt: skip
        _name_bars(axes)
    figure.supxlabel("mean activation of the channel (the network's own units)", fontsize=8)
    figure.suptitle(title)
    return figure


def _name_bars(axes: Axes) -> None:
    """Leave bars whose values are written on them without an axis of their own."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    hide_ticks(axes)
    axes.set_yticks([0, 1], names, fontsize=7)
    axes.tick_params(length=0)
