"""The effects of ablation: association against effect, and the deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredText
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from pipeline.arrays import BoolArray, FloatArray
from pipeline.artifacts import Effects
from pipeline.figures.columns import score_label
from pipeline.figures.labels import set_title, signed
from pipeline.figures.style import BLUE, GREY, ORANGE, new_figure

N_NAMED = 5  # channels that are named for their rank, for their effect, and in each of the two mixed quadrants
QUADRANTS = {
    "effect only": "upper left",
    "association and effect": "upper right",
    "neither": "lower left",
    "association only": "lower right",
}
# How channels are ablated, by the setting `ablate.mode`.
MODES = {"zero": "set to zero", "mean": "set to their means", "resample": "replaced by those of another image"}

KINDS = ("deletion", "insertion")


def draw_association_effect(effects: Effects, ranking: pd.DataFrame, question: str) -> Figure:
    """Draw the score of each varying channel against the effect of its ablation on the class score.

    Parameters
    ----------
    effects : Effects
        Effects of ablation; they must have been measured.
    ranking : DataFrame
        Table of a `Ranking`, for the label of the score.
    question : str
        Network, layer and class, for the title.
    """
    figure = new_figure(5.6, 4.4)
    axes = figure.add_subplot()
    table, found = effects.table[effects.table.zero.notna()], effects.faithfulness
    score, effect = table.score.to_numpy(), table.zero.to_numpy()
    is_associated, has_effect = score >= np.median(score), effect >= np.median(effect)
    groups = (is_associated & has_effect, is_associated != has_effect, ~is_associated & ~has_effect)
    for members, colour in zip(groups, (ORANGE, BLUE, GREY), strict=True):
        axes.scatter(score[members], effect[members], s=16, color=colour, linewidths=0, zorder=3)
    for line, value in ((axes.axvline, np.median(score)), (axes.axhline, np.median(effect))):
        line(value, color="0.8", linewidth=0.8, zorder=0)
    axes.margins(x=0.06, y=0.09)  # leaves space for the names of the quadrants in the corners
    for name, place in QUADRANTS.items():
        corner = AnchoredText(name, place, frameon=False, pad=0.1, borderpad=0.2, prop={"color": GREY, "size": 8})
        axes.add_artist(corner)
    axes.set_xlabel(f"association: {score_label(ranking)}")
    axes.set_ylabel("effect: mean |change of the class score|\nwith the channel set to zero")
    agreement = "" if found.spearman is None else f"Spearman correlation {signed(found.spearman)}"
    heading = f"{agreement}{', ' if agreement else ''}{len(table)} channels; lines: medians"
    if found.extent is not None:
        interval = "" if found.interval is None else f" (95 %: {found.interval})"
        estimated = f"{interval}, estimated for all channels\n" if agreement else ""
        counts = f"{found.n_channels} of {found.n_varying} channels, {found.n_images} of {found.n_all_images} images"
        heading = f"{agreement}{estimated}{counts}; lines: medians"
    axes.set_title(heading, loc="left", color="0.3")
    set_title(figure, "Association and effect", question)
    chosen = _named_points(score, effect, is_associated, has_effect)
    _name_points(figure, axes, score, effect, table.channel.tolist(), chosen)
    return figure


def draw_faithfulness(effects: Effects, question: str) -> Figure:
    """Draw the deletion and insertion curves of the ranking, with the band of random orders.

    Parameters
    ----------
    effects : Effects
        Effects of ablation; they must have been measured.
    question : str
        Network, layer and class, for the title.
    """
    figure = new_figure(7.4, 3.9)
    curves, found = effects.curves, effects.faithfulness
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind, verb, faithful in zip(panels, KINDS, ("ablated", "kept"), ("low", "high"), strict=True):
        count = curves.n_channels
        low, high = curves[f"{kind}_random_low"], curves[f"{kind}_random_high"]
        axes.fill_between(count, low, high, color=GREY, alpha=0.25, linewidth=0, label="random order, mean and 90 %")
        axes.plot(count, curves[f"{kind}_random"], color=GREY, linewidth=1)
        axes.plot(
            count, curves[f"{kind}_top"], color=ORANGE, linewidth=1.4, marker="o", markersize=3, label="best first"
        )
        axes.plot(
            count, curves[f"{kind}_bottom"], color=BLUE, linewidth=1.4, marker="o", markersize=3, label="last first"
        )
        for value in (0, 1):
            axes.axhline(value, color="0.85", linewidth=0.8, zorder=0)
        area, random_area = getattr(found, f"{kind}_area"), getattr(found, f"random_{kind}_area")
        measured = "" if area is None or random_area is None else f": area {signed(area)}, random {signed(random_area)}"
        least, most = getattr(found, f"{kind}_area_low"), getattr(found, f"{kind}_area_high")
        if measured and found.extent is not None and least is not None:
            measured = measured.replace(",", f" ({signed(least)} to {signed(most)}),")
        axes.set_title(f"{kind}{measured}", loc="left")
        axes.set_xlabel(f"number of channels {verb}\n(faithful: {faithful} curve for best first)")
        axes.set_xlim(0, count.max())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("normalised class score")
    (band, *lines), labels = panels[0].get_legend_handles_labels()
    handles = [(band, panels[0].lines[0]), *lines]
    how = f"channels ablated: {MODES[str(found.mode)]}"
    if found.n_images != found.n_all_images:
        how += f", {found.n_images} of {found.n_all_images} images"
    figure.legend(handles, labels, title=how, title_fontsize=8, loc="outside lower center", ncols=3, frameon=False)
    set_title(figure, "Deletion and insertion curves", question)
    return figure


def _named_points(score: FloatArray, effect: FloatArray, is_associated: BoolArray, has_effect: BoolArray) -> list[int]:
    """Return the indices of the points that are named, in the order in which their names are placed."""
    gap = pd.Series(score).rank().to_numpy() - pd.Series(effect).rank().to_numpy()
    named = [*np.argsort(-score)[:N_NAMED], *np.argsort(-effect)[:N_NAMED]]
    named += [point for point in np.argsort(-gap)[:N_NAMED] if is_associated[point] and not has_effect[point]]
    named += [point for point in np.argsort(gap)[:N_NAMED] if has_effect[point] and not is_associated[point]]
    return list(dict.fromkeys(int(point) for point in named))


def _name_points(
    figure: Figure, axes: Axes, x: FloatArray, y: FloatArray, names: Sequence[int], chosen: Sequence[int]
) -> None:
    """Write names beside the chosen points.

    A name covers no point and no other name. Points without enough space around them are not named.
    """
    figure.draw_without_rendering()  # computes the layout, so that positions in pixels are known
    pixels = axes.transData.transform(np.column_stack([x, y]))
    unit = figure.dpi / 72
    taken = [Bbox([pixel - 2.4 * unit, pixel + 2.4 * unit]) for pixel in pixels]
    taken += [artist.get_window_extent() for artist in axes.artists]
    inside = axes.get_window_extent()
    for point in chosen:
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            label = axes.annotate(
                str(names[point]), (x[point], y[point]), (right * 5, up * 5), textcoords="offset points", fontsize=7,
                ha={1: "left", 0: "center", -1: "right"}[right], va={1: "bottom", 0: "center", -1: "top"}[up],
                color="0.15",
            )  # fmt: skip
            box = label.get_window_extent().padded(1.5 * unit)
            if inside.containsx(box.x0) and inside.containsx(box.x1) and not box.count_overlaps(taken):
                taken.append(box)
                break
            label.remove()
