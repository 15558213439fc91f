"""A sweep's jobs in pictures: their score curves one over the other, and how far their rankings are the first one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.figures.columns import is_correlation
from pipeline.figures.style import GREY, SERIES, new_figure, paper_style, short

N_NAMED = 20  # more names than that are a wall; the colours still run in the order of the jobs

BY_CHANCE = 1.96  # standard deviations, 1 / sqrt(n - 1), of the rank correlation of two unrelated rankings


@dataclass(frozen=True)
class Line:
    """How far the rankings of one layer by several jobs are the first one's.

    Attributes
    ----------
    name : str
        The layer's.
    n_channels : int
        That are ranked.
    places : list of float
        Of the jobs, on the axis: a setting's values, or the jobs' numbers.
    with_first : list of float or None
        Rank correlation with the first job's ranking, in [-1, 1]; None where there is none.
    reliability : list of float or None
        Of each job's ranking: what it would reach with itself on other images.
    """

    name: str
    n_channels: int
    places: list[float]
    with_first: list[float | None]
    reliability: list[float | None]


def draw_with_first(lines: Sequence[Line], setting: str, labels: Mapping[float, str]) -> Figure:
    """Return the rank correlation with the first job's ranking, one line a layer, beside what chance would give.

    A point is a job; where several are in one place (they differ in their seed), the line goes through their mean.

    Parameters
    ----------
    lines : sequence of Line
        At least one.
    setting : str
        What the places are values of; empty where they are jobs.
    labels : mapping of float to str
        Names of the jobs by their places, where these are jobs.
    """
    with paper_style():
        figure = new_figure(7.2, 3.6 if setting else 4.2)
        axes = figure.add_subplot()
        n_fewest = min(line.n_channels for line in lines)
        chance = BY_CHANCE / np.sqrt(max(1, n_fewest - 1))
        axes.axhspan(-chance, chance, color="0.92", linewidth=0)
        for index, line in enumerate(lines):
            columns = {"place": line.places, "with_first": line.with_first, "reliability": line.reliability}
            jobs = pd.DataFrame(columns, dtype=float)
            means = jobs.groupby("place").mean()
            colour = SERIES[index % len(SERIES)]
            name = f"{line.name} ({line.n_channels} channels)"
            axes.plot(jobs.place, jobs.with_first, "o", color=colour, markersize=4, alpha=0.6)
            # Between jobs that differ in kind a line would say that there is something between them.
            axes.plot(means.with_first, "o" if labels else "-", markersize=4, color=colour, linewidth=1.3, label=name)
            axes.plot(means.reliability, "_" if labels else ":", markersize=9, color=colour, linewidth=1.2)
        if any(value is not None for line in lines for value in line.reliability):
            axes.plot([], [], "_" if labels else ":", color=GREY, linewidth=1.2, label="reliability of each ranking")
        axes.fill_between([], [], [], color="0.92", label=f"unrelated rankings of {n_fewest} channels (95 %)")
        axes.axhline(0, color="0.6", linewidth=0.6)
        axes.set_ylabel("Spearman with the first job's ranking")
        axes.set_xlabel(setting)
        if labels:
            named = list(labels) if len(labels) <= N_NAMED else []
            axes.set_xticks(named, [short(labels[place], 27) for place in named], rotation=30, ha="right")
        elif all(place % 1 == 0 for line in lines for place in line.places):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(min(-0.3, *axes.get_ylim()), 1.05)
        figure.legend(frameon=False, loc="outside lower center", ncols=3)
        figure.suptitle("What is left of the first job's ranking")
    return figure


def draw_sweep(rankings: Mapping[str, pd.DataFrame]) -> Figure:
    """Return the score against the share of the channels ranked so far, one curve a job.

    Layers have different numbers of channels, so that ranks are shown as shares: 0 is the best channel, 1 the last.
    Where not all scores are correlations, they are shown as shares of the largest.

    Parameters
    ----------
    rankings : mapping of str to DataFrame
        A `Ranking`'s table by the job's name, in the order of the jobs.
    """
    with paper_style():
        n_rows = min(len(rankings), N_NAMED)
        figure = new_figure(7.2, max(3.4, 1.0 + 0.19 * n_rows))
        axes = figure.add_subplot()
        colours = mpl.colormaps["viridis"](np.linspace(0, 0.92, len(rankings)))
        have_one_unit = all(is_correlation(table) for table in rankings.values())
        lowest = 0.0
        for index, ((name, table), colour) in enumerate(zip(rankings.items(), colours, strict=True)):
            share = (table["rank"] - 1) / max(1, len(table) - 1)
            label = f"{name} ({len(table)} channels)" if index < N_NAMED else None
            score = table.score if have_one_unit else table.score / max(float(table.score.abs().max()), 1e-300)
            lowest = min(lowest, float(score.min()))
            axes.plot(share, score, color=colour, linewidth=1.3, label=label)
        axes.set_xlabel("share of the channels, best first")
        axes.set_ylabel("score" if have_one_unit else "score, share of the largest")
        axes.set_xlim(0, 1)
        axes.set_ylim(1.02 * lowest, 1.02)
        axes.grid(axis="y", linewidth=0.4, color="0.9")
        more = len(rankings) - N_NAMED
        title = f"first {N_NAMED} of {len(rankings)} jobs" if more > 0 else None
        figure.legend(*axes.get_legend_handles_labels(), title=title, frameon=False, loc="outside right upper")
        figure.suptitle("Scores by rank")
    return figure
