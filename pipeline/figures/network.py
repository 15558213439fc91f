"""Figures of a whole network: every channel, the distributions of each layer, and the association along the depth.

The layers are the rows of the first two figures, in the order of execution, because their names are long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline.arrays import FloatArray
from pipeline.artifacts import NetworkRanking, Trust
from pipeline.figures.labels import fitted, set_title, wrapped
from pipeline.figures.style import BLUE, GREEN, GREY, ORANGE, FigureMaker, new_figure
from pipeline.network_answer import LABELS

NAME = 2.6  # inches, for the name of a layer
NAME_SIZE = 8.0  # points
SIGNIFICANT = 0.05  # channels with a smaller q-value stand out
N_LABELLED = 3  # number of layers that are named in the figure of the association
GOLDEN = 0.6180339887  # the fractional parts of its multiples are spread evenly over [0, 1)


def row_height(n_layers: int) -> float:
    """Return the height in inches of the row of one layer."""
    return float(np.clip(10 / n_layers, 0.21, 0.62))


def draw_channels(ranking: NetworkRanking, make: FigureMaker = new_figure) -> Figure:
    """Draw every channel of the network as a mark at the score that the network is ranked by, one row per layer.

    Channels that stand out are filled triangles in the upper half of the row, the others open circles in the lower
    half; without q-values, all channels are points.

    Parameters
    ----------
    ranking : NetworkRanking
        The channels and the layers.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    channels, layers, by = ranking.channels, ranking.layers, ranking.summary.by
    height = row_height(len(layers))
    figure = make(8.6, 1.25 + height * len(layers))
    axes = figure.add_subplot()
    _rows(axes, layers)
    size = float(np.clip(40 * height * 72 / max(20.0, float(layers.n_channels.max())), 6, 26))
    has_evidence = bool(channels.q.notna().any())
    for place, name in enumerate(layers.layer):
        own = channels[channels.layer == name].sort_values("channel")
        stands_out = (own.q < SIGNIFICANT).to_numpy()
        offsets = (own.channel.to_numpy() + 1) * GOLDEN % 1  # the same for every drawing, unlike random numbers
        scores = own[by].to_numpy(dtype=float)
        if has_evidence:
            _marks(axes, scores[stands_out], place - 0.40 + 0.36 * offsets[stands_out], size, stand_out=True)
            _marks(axes, scores[~stands_out], place + 0.06 + 0.34 * offsets[~stands_out], size, stand_out=False)
        else:
            axes.plot(scores, place - 0.36 + 0.72 * offsets, ".", color=BLUE, markersize=size**0.5, linestyle="none")
    axes.axvline(0, color="0.7", linewidth=0.7, zorder=0)
    axes.set_xlabel(LABELS[by])
    _name_counts(axes, layers)
    if has_evidence:
        handles = [
            Line2D([], [], linestyle="none", marker="^", color=BLUE, markersize=5),
            Line2D([], [], linestyle="none", marker="o", markerfacecolor="none", markeredgecolor=GREY, markersize=4.5),
        ]
        n_out = int((channels.q < SIGNIFICANT).sum())
        names = [f"stands out: q < .05 ({n_out:,} channels)", f"other channels ({len(channels) - n_out:,})"]
        figure.legend(handles, names, frameon=False, loc="outside lower center", ncols=2)
    set_title(figure, "Channels of the network", question(ranking))
    return figure


def _marks(axes: Axes, scores: FloatArray, places: FloatArray, size: float, *, stand_out: bool) -> None:
    if stand_out:
        axes.scatter(scores, places, s=1.5 * size, marker="^", color=BLUE, alpha=0.8, linewidths=0, zorder=3)
    else:
        axes.scatter(scores, places, s=size, facecolors="none", edgecolors=GREY, linewidths=0.5, zorder=2)


def draw_layer_distributions(ranking: NetworkRanking, make: FigureMaker = new_figure) -> Figure:
    """Draw the distribution of the scores of each layer, its reliability and the share of channels that stand out.

    Parameters
    ----------
    ranking : NetworkRanking
        The channels and the layers. The scores are those that the network is ranked by.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    channels, layers, by = ranking.channels, ranking.layers, ranking.summary.by
    height = row_height(len(layers))
    figure = make(9.6, 1.45 + height * len(layers), gap=0.04)
    panels: Sequence[Axes] = figure.subplots(1, 3, sharey=True, width_ratios=[2.2, 1, 1])
    scores, reliability, share = panels
    _rows(scores, layers)
    places = np.arange(len(layers))
    extremes = channels[~channels.dead].groupby("layer")[by].agg(["min", "max"]).reindex(layers.layer)
    scores.hlines(places, extremes["min"], extremes["max"], color=BLUE, linewidth=0.8)
    scores.barh(
        places, layers.upper_quartile - layers.lower_quartile, left=layers.lower_quartile, height=0.55,
        color=BLUE, alpha=0.35, linewidth=0,
    )  # fmt: skip
    scores.plot(layers["median"], places, "|", color="black", markersize=min(13.0, 50 * height), markeredgewidth=1.6)
    best = extremes["max"]
    scores.plot(best, places, ">", color=ORANGE, markersize=4.5, linestyle="none")
    scores.axvline(0, color="0.7", linewidth=0.7, zorder=0)
    low, high = min(0.0, float(extremes["min"].min())), float(extremes["max"].max())
    if high > low:
        scores.set_xlim(low - 0.03 * (high - low), high + 0.05 * (high - low))
    scores.set_xlabel(LABELS[by])
    _bars(reliability, layers.reliability, "split-half reliability", GREEN)
    reliability.axvline(Trust.ENOUGH, color="black", linewidth=0.9, linestyle="--")
    _bars(share, layers.share_significant, "share of channels\nwith q < .05", BLUE)
    handles = [
        Line2D([], [], color=BLUE, linewidth=0.8),
        Patch(facecolor=BLUE, alpha=0.35),
        Line2D([], [], linestyle="none", marker="|", color="black", markersize=9, markeredgewidth=1.6),
        Line2D([], [], linestyle="none", marker=">", color=ORANGE, markersize=4.5),
        Line2D([], [], color="black", linewidth=0.9, linestyle="--"),
    ]
    names = ["range", "quartiles", "median", "best channel", f"reliable from {Trust.ENOUGH} on"]
    figure.legend(handles, names, frameon=False, loc="outside lower center", ncols=5)
    set_title(figure, "Distributions of the layers", question(ranking))
    return figure


def _bars(axes: Axes, values: pd.Series, label: str, colour: str) -> None:
    """Draw one bar per layer on an axis from 0 to 1, longer to the left if a value is negative."""
    numbers = values.to_numpy(dtype=float)
    known = np.isfinite(numbers)
    places = np.arange(len(numbers))
    axes.barh(places[known], numbers[known], height=0.55, color=colour, linewidth=0)
    low = min(0.0, float(numbers[known].min()) * 1.05) if known.any() else 0.0
    axes.set_xlim(low, 1.02)
    axes.set_xlabel(label)
    axes.tick_params(axis="y", length=0)
    for place in places[~known]:
        axes.text(0.02, place, "not computed", va="center", fontsize=6.5, color=GREY)


def draw_association(ranking: NetworkRanking, make: FigureMaker = new_figure) -> Figure:
    """Draw the association of each whole layer with the class score along the depth, with its 95 % interval.

    Parameters
    ----------
    ranking : NetworkRanking
        The layers. Layers of different kinds have different marks.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    layers = ranking.layers
    figure = make(8.0, 3.9)
    axes = figure.add_subplot()
    known = layers[layers.association.notna()]
    axes.vlines(known.depth, known.association_low, known.association_high, color=BLUE, alpha=0.35, linewidth=1.2)
    axes.axhline(0, color="0.6", linewidth=0.6, zorder=1)
    axes.plot(known.depth, known.association, "-", color=BLUE, linewidth=1.0, alpha=0.6, zorder=2)
    kinds = list(dict.fromkeys(known.kind))
    markers = ("o", "s", "D", "^", "v", "P", "X")
    for index, kind in enumerate(kinds):
        own = known[known.kind == kind]
        marker = markers[index % len(markers)]
        axes.plot(own.depth, own.association, marker, color=BLUE, markersize=5, linestyle="none", zorder=3, label=kind)
    axes.set_xlim(-0.03, 1.03)
    low = min(0.0, float(known.association_low.min())) if len(known) else 0.0
    axes.set_ylim(low - 0.06, 1.12)
    axes.set_ylabel("cross-fitted correlation\nof the whole layer")
    axes.set_yticks([tick for tick in (-0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1) if tick >= low - 0.06])
    interval = Line2D([], [], color=BLUE, alpha=0.35, linewidth=1.2, label="95 % interval")
    handles, _ = axes.get_legend_handles_labels()
    figure.legend(handles=[*handles, interval], frameon=False, loc="outside lower center", ncols=min(5, len(kinds) + 1))
    named = "largest: " + ",  ".join(_name_best(axes, known))
    depth = "depth (share of the network's modules that have run before)"
    axes.set_xlabel("\n".join([depth, *([wrapped(named, 7.0, NAME_SIZE + 1)] if len(known) else [])]))
    set_title(figure, "Association of whole layers with the class score", question(ranking))
    return figure


def question(ranking: NetworkRanking) -> str:
    """Return the network and the target, for titles."""
    return f"{ranking.summary.model}, {ranking.summary.target}"


def _name_best(axes: Axes, known: pd.DataFrame) -> list[str]:
    """Write the rank of the best layers beside their marks, and return their ranks, names and values."""
    best = known.sort_values("association", ascending=False, kind="stable").head(N_LABELLED)
    lines = []
    for rank, (_, layer) in enumerate(best.iterrows(), start=1):
        axes.annotate(
            str(rank), (layer.depth, layer.association), xytext=(0, 6), textcoords="offset points", ha="center",
            fontsize=NAME_SIZE, fontweight="bold", color=ORANGE,
        )  # fmt: skip
        axes.plot(
            layer.depth, layer.association, "o", markersize=9, markerfacecolor="none", markeredgecolor=ORANGE,
            markeredgewidth=1.4, zorder=4,
        )  # fmt: skip
        lines.append(f"{rank}. {fitted(str(layer.layer), NAME, NAME_SIZE, 'middle')} ({layer.association:.2f})")
    return lines


def _rows(axes: Axes, layers: pd.DataFrame) -> None:
    """Make one row per layer, the first layer at the top, with a stripe behind every second one."""
    size = min(NAME_SIZE, 0.78 * row_height(len(layers)) * 72)
    names = [fitted(str(name), NAME, size, "middle") for name in layers.layer]
    axes.set_yticks(np.arange(len(layers)), names, fontsize=size)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for place in range(0, len(layers), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="0.96", linewidth=0, zorder=-1)


def _name_counts(axes: Axes, layers: pd.DataFrame) -> None:
    """Write the number of channels of each layer, and how many of them stand out, beside its row."""
    size = min(7.5, 0.72 * row_height(len(layers)) * 72)
    heading = "channels" if layers.n_significant.isna().all() else "stand out"
    axes.annotate(
        heading, (1, 1), xycoords="axes fraction", xytext=(5, 3), textcoords="offset points", fontsize=7, color="0.35"
    )
    for place, (n_out, n_channels) in enumerate(zip(layers.n_significant, layers.n_channels, strict=True)):
        text = f"{n_channels}" if pd.isna(n_out) else f"{int(n_out)} of {n_channels}"
        axes.annotate(
            text, (1, place), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=size, color="0.35",
        )  # fmt: skip
