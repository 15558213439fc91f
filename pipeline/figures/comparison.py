"""Figures that compare rankings: their agreement, the ranks of the channels, and the distributions of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.arrays import FloatArray
from pipeline.figures.labels import fitted, in_legend, set_footer, set_title, signed, text_width, wrapped
from pipeline.figures.style import GREY, SERIES, FigureMaker, new_figure

NAME = 2.2  # inches, for the name of a run
NAME_SIZE = 8.0  # points


def draw_agreement(
    matrices: Sequence[tuple[str, FloatArray]], labels: Sequence[str], layer: str, make: FigureMaker = new_figure
) -> Figure:
    """Draw a heat map for each measure of agreement, with the value of every pair of runs in its cell.

    Parameters
    ----------
    matrices : sequence of (name, ndarray of shape (n_runs, n_runs))
        Measures, in [-1, 1]. All heat maps have the same colour scale.
    labels : sequence of str
        Name of each run.
    layer : str
        Network and layer, for the title.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    n_runs = len(labels)
    labels = [fitted(label, NAME, NAME_SIZE, "middle") for label in labels]
    side = max(1.7, 0.55 * n_runs)
    margin = 0.1 + max(text_width(label, NAME_SIZE) for label in labels)
    figure = make(len(matrices) * (side + 0.35) + margin + 0.9, side + 0.75 * margin + 0.7)
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    low = min(0.0, *(float(values.min()) for _, values in matrices))
    for place, (axes, (name, values)) in enumerate(zip(panels, matrices, strict=True)):
        shown = axes.imshow(values, cmap="cividis", vmin=low, vmax=1)
        axes.set_title(name)
        axes.set_xticks(range(n_runs), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(n_runs), labels if place == 0 else [""] * n_runs)
        axes.tick_params(length=0)
        for row, column in np.ndindex(n_runs, n_runs):
            value = float(values[row, column])
            dark = (value - low) / (1 - low) < 0.55
            axes.text(
                column, row, signed(value), ha="center", va="center", fontsize=8, color="white" if dark else "black"
            )
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(shown, ax=list(panels), shrink=0.8, aspect=25)
    bar.outline.set_visible(False)
    set_title(figure, "Agreement of rankings", layer)
    return figure


def draw_slopes(
    ranks: Sequence[FloatArray], labels: Sequence[str], top: int, layer: str, make: FigureMaker = new_figure
) -> Figure:
    """Draw the ranks of the channels in all runs, one line per channel and one column per run.

    Only channels that are among the first `top` of at least one run are drawn.

    Parameters
    ----------
    ranks : sequence of ndarray of shape (n_channels,)
        Rank of each channel in each run; 1 is the best. The scale is logarithmic, because the difference between the
        ranks 1 and 2 matters more than that between 51 and 52.
    labels : sequence of str
        Name of each run.
    top : int
        Number of best channels of each run that are drawn. Those of the first run are coloured.
    layer : str
        Network and layer, for the title.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    table = np.stack(ranks)
    followed = [int(channel) for channel in np.flatnonzero((table <= top).any(axis=0))]
    first = [int(channel) for channel in np.argsort(table[0], kind="stable") if channel in followed][:top]
    figure = make(max(4.2, 1.9 * len(labels) + 1.2), 4.6)
    axes = figure.add_subplot()
    places = np.arange(len(labels))
    for channel in followed:
        if channel not in first:
            axes.plot(places, table[:, channel], color="0.8", linewidth=1, marker="o", markersize=3, zorder=1)
    for index, channel in enumerate(first):
        colour = SERIES[index % len(SERIES)]
        style = "-" if index < len(SERIES) else "--"
        axes.plot(places, table[:, channel], style, color=colour, linewidth=1.6, marker="o", markersize=4.5, zorder=3)
    axes.set_yscale("log")
    axes.set_ylim(float(table[:, followed].max()) * 1.15, 0.85)
    ticks = [rank for rank in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if rank <= table[:, followed].max()]
    axes.set_yticks(ticks, [str(rank) for rank in ticks])
    axes.minorticks_off()
    axes.axhline(top + 0.5, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylabel("rank")
    axes.set_xticks(places, [wrapped(label, 1.7, NAME_SIZE) for label in labels])
    axes.set_xlim(-0.35, len(labels) - 0.65)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.tick_params(axis="x", length=0)
    set_title(figure, "Ranks of channels", layer)
    set_footer(figure, f"channels among the {top} best of any run; in colour: the {top} best of the first run")
    colours = {channel: SERIES[place % len(SERIES)] for place, channel in enumerate(first)}
    sides: list[tuple[int, float, Literal["left", "right"]]] = [(0, -8.0, "right"), (len(labels) - 1, 8.0, "left")]
    for place, offset, side in sides:
        ends = {channel: float(table[place, channel]) for channel in followed if table[place, channel] <= top}
        _name_ends(figure, axes, place, ends, colours, offset, side)
    return figure


def _name_ends(
    figure: Figure,
    axes: Axes,
    place: int,
    ends: Mapping[int, float],
    colours: Mapping[int, str],
    offset: float,
    side: Literal["left", "right"],
) -> None:
    """Write the index of each channel beside its rank; indices that would overlap are moved apart vertically."""
    channels, ranks = list(ends), list(ends.values())
    figure.draw_without_rendering()  # computes the layout, so that positions in points are known
    heights = axes.transData.transform([(place, rank) for rank in ranks])[:, 1] * 72 / figure.dpi
    order = np.argsort(-heights, kind="stable")
    for index, height in zip(order, _apart(heights[order], 1.1 * NAME_SIZE), strict=True):
        channel = channels[index]
        axes.annotate(
            str(channel), (place, ranks[index]), xytext=(offset, height - heights[index]), textcoords="offset points",
            ha=side, va="center", fontsize=NAME_SIZE, color=colours.get(channel, GREY),
        )  # fmt: skip


def _apart(heights: FloatArray, gap: float) -> list[float]:
    """Return descending heights moved as little as possible so that neighbours are at least `gap` apart.

    Neighbours that are too close form a group, which is spread evenly around the mean of its members.
    """
    groups: list[list[float]] = []
    for height in heights:
        groups.append([float(height)])
        while len(groups) > 1:
            upper, lower = groups[-2:]
            bottom = np.mean(upper) - gap * (len(upper) - 1) / 2
            top = np.mean(lower) + gap * (len(lower) - 1) / 2
            if bottom - top >= gap:
                break
            groups[-2:] = [upper + lower]
    return [
        float(np.mean(group) + gap * ((len(group) - 1) / 2 - position))
        for group in groups
        for position in range(len(group))
    ]


def draw_distributions(scores: Sequence[FloatArray], labels: Sequence[str], kinds: Sequence[str]) -> Figure:
    """Draw the distributions of scores: on the left by relative rank, on the right as points with median and quartiles.

    Parameters
    ----------
    scores : sequence of ndarray of shape (n_channels,)
        Scores of the varying channels of each run. The runs may have different channels.
    labels : sequence of str
        Name of each run.
    kinds : sequence of str
        What the channels of each run are ranked by. If these differ, the scores of each run are divided by the largest
        absolute score of the run, because scores of different kinds have different scales.
    """
    name = "score"
    if len(set(kinds)) > 1:
        scores = [values / max(float(np.abs(values).max()), 1e-300) for values in scores]
        name = "score / largest absolute score"
    figure = new_figure(9.0, max(3.2, 0.42 * len(labels) + 1.9) + 0.18 * -(-len(labels) // 3))
    curves, boxes = figure.subplots(1, 2, width_ratios=[1.15, 1])
    for index, (values, label) in enumerate(zip(scores, labels, strict=True)):
        ordered = np.sort(values)[::-1]
        share = (np.arange(len(ordered)) + 0.5) / len(ordered)
        colour = SERIES[index % len(SERIES)]
        style = ("-", "--", ":")[index // len(SERIES) % 3]
        shown = fitted(f"{label} ({len(values)})", NAME, NAME_SIZE, "middle")
        curves.plot(share, ordered, style, color=colour, linewidth=1.6, label=in_legend(shown))
        quarter, median, three_quarters = np.quantile(ordered, [0.25, 0.5, 0.75])
        boxes.plot(
            [quarter, three_quarters], [index, index], color=colour, linewidth=9, alpha=0.3, solid_capstyle="butt"
        )
        boxes.scatter(ordered, np.full(len(ordered), index), s=9, color=colour, alpha=0.6, linewidths=0)
        boxes.plot([median, median], [index - 0.25, index + 0.25], color=colour, linewidth=2)
    curves.set_xlabel("relative rank\n(0: best channel, 1: last channel)", fontsize=8)
    curves.set_ylabel(name)
    lowest = min(float(values.min()) for values in scores)
    highest = max(float(values.max()) for values in scores)
    for limit in (curves.set_ylim, boxes.set_xlim):
        limit(min(0.0, lowest), max(1.02, 1.05 * highest))
    curves.set_xlim(0, 1)
    curves.grid(axis="y", linewidth=0.4, color="0.9")
    figure.legend(
        *curves.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3,
        title="run (number of channels)", title_fontsize=8,
    )  # fmt: skip
    boxes.set_yticks(range(len(labels)), [wrapped(label, NAME, NAME_SIZE) for label in labels], fontsize=NAME_SIZE)
    boxes.set_ylim(len(labels) - 0.5, -0.5)
    boxes.set_xlabel(f"{name}\n(points: channels; line: median; bar: quartiles)", fontsize=8)
    boxes.tick_params(axis="y", length=0)
    set_title(figure, "Scores of each run")
    return figure
