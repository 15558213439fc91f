"""Figures of a sweep: the score curves of its jobs, and the agreement of their rankings with that of the first job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.figures.columns import is_correlation
from pipeline.figures.labels import fitted, in_legend, set_title, text_width
from pipeline.figures.style import GREY, SERIES, new_figure, paper_style

N_NAMED = 20  # number of jobs that are named, at most; the colours are in the order of the jobs
NAME = 2.3  # inches, for the name of a job or a layer
NAME_SIZE = 8.0  # points
LINE = 0.17  # inches, the height of a row of a legend

# 95 % of the rank correlations of unrelated rankings of n channels are within 1.96 / sqrt(n - 1) of 0.
UNRELATED = 1.96


@dataclass(frozen=True)
class Line:
    """The agreement of several jobs that ranked the same layer with the first of them.

    Attributes
    ----------
    name : str
        Name of the layer.
    n_channels : int
        Number of ranked channels.
    places : list of float
        Position of each job on the horizontal axis: the value of a setting, or the number of the job.
    with_first : list of float or None
        Spearman correlation with the ranking of the first job, in [-1, 1]; None where it is not defined.
    reliability : list of float or None
        Split-half reliability of each job's ranking; None where it was not measured.
    """

    name: str
    n_channels: int
    places: list[float]
    with_first: list[float | None]
    reliability: list[float | None]


def draw_with_first(lines: Sequence[Line], setting: str, labels: Mapping[float, str]) -> Figure:
    """Draw the Spearman correlation with the ranking of the first job, one line per layer.

    Each job is a point. If several jobs have the same position (they differ in their seed), the line goes through their
    mean. A band shows the correlations of unrelated rankings.

    Parameters
    ----------
    lines : sequence of Line
        At least one.
    setting : str
        Setting whose values are the positions; empty if the positions are numbers of jobs.
    labels : mapping of float to str
        Names of the jobs by position; empty if the positions are values of a setting.
    """
    with paper_style():
        figure = new_figure(7.2, 3.6 if setting else 4.2)
        axes = figure.add_subplot()
        n_fewest = min(line.n_channels for line in lines)
        limit = UNRELATED / np.sqrt(max(1, n_fewest - 1))
        axes.axhspan(-limit, limit, color="0.92", linewidth=0)
        for index, line in enumerate(lines):
            columns = {"place": line.places, "with_first": line.with_first, "reliability": line.reliability}
            jobs = pd.DataFrame(columns, dtype=float)
            means = jobs.groupby("place").mean()
            colour = SERIES[index % len(SERIES)]
            name = fitted(f"{line.name} ({line.n_channels} channels)", NAME, NAME_SIZE, "middle")
            axes.plot(jobs.place, jobs.with_first, "o", color=colour, markersize=4, alpha=0.6)
            # Jobs that are not ordered by a setting are not connected by a line.
            axes.plot(
                means.with_first,
                "o" if labels else "-",
                markersize=4,
                color=colour,
                linewidth=1.3,
                label=in_legend(name),
            )
            axes.plot(means.reliability, "_" if labels else ":", markersize=9, color=colour, linewidth=1.2)
        if any(value is not None for line in lines for value in line.reliability):
            axes.plot(
                [],
                [],
                "_" if labels else ":",
                color=GREY,
                linewidth=1.2,
                label="split-half reliability of each ranking",
            )
        axes.fill_between([], [], [], color="0.92", label=f"95 % of unrelated rankings of {n_fewest} channels")
        axes.axhline(0, color="0.6", linewidth=0.6)
        axes.set_ylabel("Spearman correlation\nwith the first job's ranking")
        axes.set_xlabel(setting)
        if labels:
            named = list(labels) if len(labels) <= N_NAMED else []
            axes.set_xticks(
                named, [fitted(labels[place], NAME, NAME_SIZE, "middle") for place in named], rotation=30, ha="right"
            )
        elif all(place % 1 == 0 for line in lines for place in line.places):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(min(-0.3, *axes.get_ylim()), 1.05)
        widest = max(text_width(text, NAME_SIZE) for text in axes.get_legend_handles_labels()[1])
        n_columns = max(1, min(3, int(figure.get_figwidth() / (widest + 0.55))))
        n_rows = -(-(len(lines) + 2) // n_columns)
        figure.set_figheight(figure.get_figheight() + LINE * max(0, n_rows - 2))
        figure.legend(frameon=False, loc="outside lower center", ncols=n_columns)
        set_title(figure, "Agreement with the ranking of the first job")
    return figure


def draw_sweep(rankings: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the score against the relative rank, one curve per job.

    Layers have different numbers of channels, so ranks are shown relative to that number: 0 is the best channel, 1 the
    last one. Scores that are not correlations, or of several kinds, have different scales: each of these is divided by
    the largest absolute score of its ranking.

    Parameters
    ----------
    rankings : mapping of str to DataFrame
        Table of a `Ranking` by the name of the job, in the order of the jobs.
    """
    with paper_style():
        n_rows = min(len(rankings), N_NAMED)
        figure = new_figure(7.2, max(3.4, 1.0 + 0.19 * n_rows))
        axes = figure.add_subplot()
        colours = mpl.colormaps["viridis"](np.linspace(0, 0.92, len(rankings)))
        have_one_kind = len({str(table.by.iloc[0]) for table in rankings.values()}) == 1
        have_one_unit = have_one_kind and all(is_correlation(table) for table in rankings.values())
        lowest = 0.0
        for index, ((name, table), colour) in enumerate(zip(rankings.items(), colours, strict=True)):
            share = (table["rank"] - 1) / max(1, len(table) - 1)
            label = fitted(f"{name} ({len(table)} channels)", NAME, NAME_SIZE, "middle") if index < N_NAMED else None
            score = table.score if have_one_unit else table.score / max(float(table.score.abs().max()), 1e-300)
            lowest = min(lowest, float(score.min()))
            axes.plot(share, score, color=colour, linewidth=1.3, label=in_legend(label) if label else None)
        axes.set_xlabel("relative rank (0: best channel, 1: last channel)")
        axes.set_ylabel("score" if have_one_unit else "score / largest absolute score")
        axes.set_xlim(0, 1)
        axes.set_ylim(1.02 * lowest, 1.02)
        axes.grid(axis="y", linewidth=0.4, color="0.9")
        more = len(rankings) - N_NAMED
        title = f"first {N_NAMED} of {len(rankings)} jobs" if more > 0 else None
        figure.legend(*axes.get_legend_handles_labels(), title=title, frameon=False, loc="outside right upper")
        set_title(figure, "Scores by rank")
    return figure
