"""Association against effect, and what is left of the class score as channels are removed or alone kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredText
from matplotlib.transforms import Bbox

from pipeline.artifacts import Effects
from pipeline.figures.columns import score_label
from pipeline.figures.style import BLUE, GREY, ORANGE, new_figure

N_NAMED = 5  # of each kind: best by the ranking, most moving, and the extremes of the two mixed quadrants
QUADRANTS = {
    "moves only": "upper left",
    "follows and moves": "upper right",
    "neither": "lower left",
    "follows only": "lower right",
}
MODES = {"zero": "set to zero", "mean": "set to their means", "resample": "of another image"}


def draw_association_effect(effects: Effects, ranking: pd.DataFrame, title: str) -> Figure:
    """Return each living channel's score against how far the class score moves without it.

    Parameters
    ----------
    effects : Effects
        Measured.
    ranking : DataFrame
        A `Ranking`'s table: says what the score is.
    title : str
        The question, above all.
    """
    figure = new_figure(5.6, 4.4)
    axes = figure.add_subplot()
    table = effects.table
    score, effect = table.score.to_numpy(), table.zero.to_numpy()
    follows, moves = score >= np.median(score), effect >= np.median(effect)
    for has_both, colour in ((follows & moves, ORANGE), (follows != moves, BLUE), (~follows & ~moves, GREY)):
        axes.scatter(score[has_both], effect[has_both], s=16, color=colour, linewidths=0, zorder=3)
    for line, value in ((axes.axvline, np.median(score)), (axes.axhline, np.median(effect))):
        line(value, color="0.8", linewidth=0.8, zorder=0)
    axes.margins(x=0.06, y=0.09)  # the quadrants' names lie in the corners
    for name, place in QUADRANTS.items():
        corner = AnchoredText(name, place, frameon=False, pad=0.1, borderpad=0.2, prop={"color": GREY, "size": 8})
        axes.add_artist(corner)
    axes.set_xlabel(f"follows: {score_label(ranking)}")
    axes.set_ylabel("moves: mean |change of the class score|\nwith the channel set to zero")
    spearman = effects.faithfulness.spearman
    agreement = "" if spearman is None else f"Spearman {spearman:.2f}, "
    axes.set_title(f"{agreement}{len(table)} channels, quadrants at the medians", loc="left", color="0.3")
    figure.suptitle(title)
    _name_points(figure, axes, score, effect, table.channel.tolist(), _interesting(score, effect, follows, moves))
    return figure


def draw_faithfulness(effects: Effects, title: str) -> Figure:
    """Return the curves of deletion and insertion, with the band of random orders.

    Parameters
    ----------
    effects : Effects
        Measured.
    title : str
        The question, above all.
    """
    figure = new_figure(7.4, 3.5)
    curves, found = effects.curves, effects.faithfulness
    panels = figure.subplots(1, 2, sharey=True)
    areas = {
        "deletion": (found.deletion_area, found.random_deletion_area),
        "insertion": (found.insertion_area, found.random_insertion_area),
    }
    for axes, kind, verb, better in zip(panels, areas, ("removed", "kept"), ("low", "high"), strict=True):
        count = curves.n_channels
        low, high = curves[f"{kind}_random_low"], curves[f"{kind}_random_high"]
        axes.fill_between(count, low, high, color=GREY, alpha=0.25, linewidth=0, label="random channels: mean and 90 %")
        axes.plot(count, curves[f"{kind}_random"], color=GREY, linewidth=1)
        axes.plot(count, curves[f"{kind}_top"], color=ORANGE, linewidth=1.4, marker="o", markersize=3, label="best")
        axes.plot(count, curves[f"{kind}_bottom"], color=BLUE, linewidth=1.4, marker="o", markersize=3, label="last")
        for value in (0, 1):
            axes.axhline(value, color="0.85", linewidth=0.8, zorder=0)
        area, by_chance = areas[kind]
        named = "" if area is None else f": area {area:.2f}, random {by_chance:.2f}"
        axes.set_title(f"{kind}{named}", loc="left")
        axes.set_xlabel(f"channels {verb} (best first: {better} is faithful)")
        axes.set_xlim(0, count.max())
    panels[0].set_ylabel(f"share of the class score left,\nchannels {MODES[str(found.mode)]}")
    (band, *lines), (chance, *names) = panels[0].get_legend_handles_labels()
    handles = [(band, panels[0].lines[0]), *lines]
    labels = [chance, *(f"{name} channels" for name in names)]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(title)
    return figure


def _interesting(score: np.ndarray, effect: np.ndarray, follows: np.ndarray, moves: np.ndarray) -> list[int]:
    """Return the places of the points that are named, the first to be placed first."""
    gap = pd.Series(score).rank().to_numpy() - pd.Series(effect).rank().to_numpy()
    places = [*np.argsort(-score)[:N_NAMED], *np.argsort(-effect)[:N_NAMED]]
    places += [place for place in np.argsort(-gap)[:N_NAMED] if follows[place] and not moves[place]]
    places += [place for place in np.argsort(gap)[:N_NAMED] if moves[place] and not follows[place]]
    return list(dict.fromkeys(int(place) for place in places))


def _name_points(
    figure: Figure, axes: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[int], places: Sequence[int]
) -> None:
    """Write names beside points where there is room: no name over a point or another name, none at all without room."""
    figure.draw_without_rendering()  # lays the axes out, so that places on the paper are known
    points = axes.transData.transform(np.column_stack([x, y]))
    unit = figure.dpi / 72
    taken = [Bbox([point - 2.4 * unit, point + 2.4 * unit]) for point in points]
    taken += [artist.get_window_extent() for artist in axes.artists]
    inside = axes.get_window_extent()
    for place in places:
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            label = axes.annotate(
                str(names[place]), (x[place], y[place]), (right * 5, up * 5), textcoords="offset points", fontsize=7,
                ha={1: "left", 0: "center", -1: "right"}[right], va={1: "bottom", 0: "center", -1: "top"}[up],
                color="0.15",
            )  # fmt: skip
            box = label.get_window_extent().padded(1.5 * unit)
            if inside.containsx(box.x0) and inside.containsx(box.x1) and not box.count_overlaps(taken):
                taken.append(box)
                break
            label.remove()
