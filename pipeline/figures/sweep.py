"""The score curves of a sweep's jobs, one over the other."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.figures.style import new_figure, paper_style

N_NAMED = 20  # more names than that are a wall; the colours still run in the order of the jobs


def draw_sweep(rankings: Mapping[str, pd.DataFrame]) -> Figure:
    """Return the score against the share of the channels ranked so far, one curve a job.

    Layers have different numbers of channels, so that ranks are shown as shares: 0 is the best channel, 1 the last.

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
        for index, ((name, table), colour) in enumerate(zip(rankings.items(), colours, strict=True)):
            share = (table["rank"] - 1) / max(1, len(table) - 1)
            label = f"{name} ({len(table)} channels)" if index < N_NAMED else None
            axes.plot(share, table.score, color=colour, linewidth=1.3, label=label)
        axes.set_xlabel("share of the channels, best first")
        axes.set_ylabel("score")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.grid(axis="y", linewidth=0.4, color="0.9")
        more = len(rankings) - N_NAMED
        title = f"first {N_NAMED} of {len(rankings)} jobs" if more > 0 else None
        figure.legend(*axes.get_legend_handles_labels(), title=title, frameon=False, loc="outside right upper")
        figure.suptitle("Scores by rank")
    return figure
