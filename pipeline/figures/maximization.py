"""Activation maximisation: the input found for each channel, beside its most activating image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.figures.labels import fitted, set_footer, set_title, signed
from pipeline.figures.style import BLUE, GREY, FigureMaker, hide_ticks, new_figure, show_picture
from pipeline.networks.maximization import Maximized

CELL = 1.35  # inches
NAME_SIZE = 6.5  # points


def draw_maximization(
    found: Maximized,
    real: Sequence[NDArray[np.uint8]],
    titles: Sequence[str],
    real_names: Sequence[str],
    question: str,
    make: FigureMaker = new_figure,
) -> Figure:
    """Draw one column per channel: the input found, the most activating image, and the activations that both reach.

    Parameters
    ----------
    found : Maximized
        Inputs found by activation maximisation, and the activations.
    real : sequence of ndarray of shape (height, width) or (height, width, 3)
        Most activating image of each channel, uint8.
    titles : sequence of str
        Title of each column.
    real_names : sequence of str
        Ids of the images.
    question : str
        Network, layer and class, for the title.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    n_channels = len(found.pictures)
    figure = make(CELL * n_channels + 0.7, CELL * 2 + 1.6)
    grid = figure.add_gridspec(3, n_channels, height_ratios=[1, 1, 0.4])
    for column in range(n_channels):
        axes = figure.add_subplot(grid[0, column])
        show_picture(axes, found.pictures[column])
        axes.set_title(titles[column])
        if column == 0:
            axes.set_ylabel("input found", fontsize=8)
        axes = figure.add_subplot(grid[1, column])
        show_picture(axes, real[column])
        axes.set_xlabel(fitted(real_names[column], CELL, NAME_SIZE, "start"), fontsize=NAME_SIZE, labelpad=2)
        if column == 0:
            axes.set_ylabel("most activating\nimage", fontsize=8)
        axes = figure.add_subplot(grid[2, column])
        values = [float(found.best_real[column]), float(found.reached[column])]
        axes.barh([0, 1], values, color=[GREY, BLUE], height=0.75)
        axes.axvline(0, color="0.3", linewidth=0.6)
        axes.set_yticks([0, 1], ["image", "input found"] if column == 0 else ["", ""], fontsize=7)
        low, high = min(0.0, *values), max(0.0, *values)
        axes.set_xlim(low - 0.45 * (high - low) * (low < 0), high + 0.45 * (high - low) * (high > 0))
        for place, value in enumerate(values):
            axes.annotate(
                signed(value), (value, place), xytext=(2 if value >= 0 else -2, 0), textcoords="offset points",
                va="center", ha="left" if value >= 0 else "right", fontsize=NAME_SIZE,
            )  # fmt: skip
        _name_bars(axes)
    set_footer(figure, "mean activation of the channel (units of the network)")
    set_title(figure, "Activation maximisation", question)
    return figure


def _name_bars(axes: Axes) -> None:
    """Remove the axis below bars whose values are written beside them."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    hide_ticks(axes)
    axes.set_yticks([0, 1], names, fontsize=7)
    axes.tick_params(length=0)
