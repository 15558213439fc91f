"""Rankings side by side: how far they agree, how channels move between them, how their scores are spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pipeline.arrays import FloatArray
from pipeline.figures.style import GREY, SERIES, new_figure


def draw_agreement(matrices: Sequence[tuple[str, FloatArray]], labels: Sequence[str], title: str) -> Figure:
    """Return a heat map per measure, every pair's value written into its cell.

    Parameters
    ----------
    matrices : sequence of (name, ndarray of shape (n_runs, n_runs))
        In [-1, 1]; one colour scale for all.
    labels : sequence of str
        One per run.
    title : str
        Above all.
    """
    n_runs = len(labels)
    side = max(1.7, 0.55 * n_runs)
    margin = 0.075 * max(len(label) for label in labels)
    figure = new_figure(len(matrices) * (side + 0.35) + margin + 0.9, side + margin + 0.7)
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
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if dark else "black"
            )
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(shown, ax=list(panels), shrink=0.8, aspect=25)
    bar.outline.set_visible(False)
    figure.suptitle(title)
    return figure


def draw_slopes(ranks: Sequence[FloatArray], labels: Sequence[str], top: int, title: str) -> Figure:
    """Return each channel's way through the rankings, a column a run; those at the top of any run are drawn.

    Parameters
    ----------
    ranks : sequence of ndarray of shape (n_channels,)
        One per run; 1 is best. Drawn on a logarithmic scale: ranks 1 and 2 differ more than 51 and 52.
    labels : sequence of str
        One per run.
    top : int
        How many channels of each run are followed; those of the first are coloured.
    title : str
        Above all.
    """
    table = np.stack(ranks)
    followed = [int(channel) for channel in np.flatnonzero((table <= top).any(axis=0))]
    first = [int(channel) for channel in np.argsort(table[0], kind="stable") if channel in followed][:top]
    figure = new_figure(max(4.2, 1.9 * len(labels) + 1.2), 4.6)
    axes = figure.add_subplot()
    places = np.arange(len(labels))
    for channel in followed:
        if channel not in first:
            axes.plot(places, table[:, channel], color="0.8", linewidth=1, marker="o", markersize=3, zorder=1)
    for index, channel in enumerate(first):
        colour = SERIES[index % len(SERIES)]
        style = "-" if index < len(SERIES) else "--"
        axes.plot(places, table[:, channel], style, color=colour, linewidth=1.6, marker="o", markersize=4.5, zorder=3)
    for channel in followed:
        colour = SERIES[first.index(channel) % len(SERIES)] if channel in first else GREY
        for place, offset, side in ((0, -8, "right"), (len(labels) - 1, 8, "left")):
            if table[place, channel] <= top:
                axes.annotate(
                    str(channel), (place, table[place, channel]), xytext=(offset, 0), textcoords="offset points",
                    ha=side, va="center", fontsize=8, color=colour,
                )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(float(table[:, followed].max()) * 1.15, 0.85)
    ticks = [rank for rank in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if rank <= table[:, followed].max()]
    axes.set_yticks(ticks, [str(rank) for rank in ticks])
    axes.minorticks_off()
    axes.axhline(top + 0.5, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylabel("rank")
    axes.set_xticks(places, labels)
    axes.set_xlim(-0.35, len(labels) - 0.65)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.tick_params(axis="x", length=0)
    figure.suptitle(title)
    figure.supxlabel(f"channels among the {top} best of any run; colours: those of the first", fontsize=8)
    return figure


def draw_distributions(scores: Sequence[FloatArray], labels: Sequence[str], title: str) -> Figure:
    """Return how scores are spread: left the curves from the best to the last channel, right a box and points a run.

    Parameters
    ----------
    scores : sequence of ndarray of shape (n_channels,)
        Of the living channels; the runs may have different channels.
    labels : sequence of str
        One per run.
    title : str
        Above all.
    """
    figure = new_figure(9.0, max(3.2, 0.42 * len(labels) + 1.9))
    curves, boxes = figure.subplots(1, 2, width_ratios=[1.15, 1])
    for index, (values, label) in enumerate(zip(scores, labels, strict=True)):
        ordered = np.sort(values)[::-1]
        share = (np.arange(len(ordered)) + 0.5) / len(ordered)
        colour = SERIES[index % len(SERIES)]
        style = ("-", "--", ":")[index // len(SERIES) % 3]
        curves.plot(share, ordered, style, color=colour, linewidth=1.6, label=f"{label} ({len(ordered)})")
        quarter, median, three_quarters = np.quantile(ordered, [0.25, 0.5, 0.75])
        boxes.plot(
            [quarter, three_quarters], [index, index], color=colour, linewidth=9, alpha=0.3, solid_capstyle="butt"
        )
        boxes.scatter(ordered, np.full(len(ordered), index), s=9, color=colour, alpha=0.6, linewidths=0)
        boxes.plot([median, median], [index - 0.25, index + 0.25], color=colour, linewidth=2)
    curves.set_xlabel("share of the layer's channels, best first")
    curves.set_ylabel("score")
    lowest = min(float(values.min()) for values in scores)
    highest = max(float(values.max()) for values in scores)
    for limit in (curves.set_ylim, boxes.set_xlim):
        limit(min(0.0, lowest), max(1.02, 1.05 * highest))
    curves.set_xlim(0, 1)
    curves.grid(axis="y", linewidth=0.4, color="0.9")
    curves.legend(frameon=False, loc="best", title="run (channels)", title_fontsize=8)
    boxes.set_yticks(range(len(labels)), labels)
    boxes.set_ylim(len(labels) - 0.5, -0.5)
    boxes.set_xlabel("score: channels, median, middle half")
    boxes.tick_params(axis="y", length=0)
    figure.suptitle(title)
    return figure
