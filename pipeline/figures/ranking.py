"""How the scores fall off from the best channel to the last, and what ACE made of the best one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.figures.style import BLUE, GREY, ORANGE, new_figure

FloatArray = NDArray[np.floating[Any]]
N_NAMED = 5
MAX_PANELS = 12
SCORE_NAMES = {"maximal": "maximal correlation", "first": "|corr(first transform, theta)|"}


def draw_ranking_curve(table: pd.DataFrame, title: str) -> Figure:
    """Return the score against the rank, the best channels named, dead ones set apart.

    Parameters
    ----------
    table : DataFrame
        A `Ranking`'s table.
    title : str
        The question, above all.
    """
    figure = new_figure(5.6, 3.4)
    axes = figure.add_subplot()
    living, dead = table[~table.dead], table[table.dead]
    axes.plot(living["rank"], living.score, color=BLUE, linewidth=1.2, zorder=2)
    axes.scatter(living["rank"], living.score, s=12, color=BLUE, zorder=3, label=f"{len(living)} channels")
    best = living.head(N_NAMED)
    named = ", ".join(str(channel) for channel in best.channel)
    axes.scatter(best["rank"], best.score, s=16, color=ORANGE, zorder=4, label=f"best channels: {named}")
    if len(dead):
        axes.scatter(dead["rank"], dead.score, s=14, color=GREY, marker="x", zorder=3, label=f"{len(dead)} dead")
    axes.legend(frameon=False, loc="upper right")
    axes.set_xlabel("rank")
    axes.set_ylabel(f"score: {SCORE_NAMES[str(table.statistic.iloc[0])]}")
    axes.set_ylim(0, 1.2 if table.score.max() > 0.75 else 1.02)  # room for the legend above a high curve
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_xlim(0, len(table) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", linewidth=0.4, color="0.9")
    figure.suptitle(title)
    return figure


def draw_transforms(
    projections: FloatArray, phi: FloatArray, class_score: FloatArray, theta: FloatArray, title: str
) -> Figure:
    """Return ACE's transforms of one channel: phi_j against component j, theta against the class score.

    Parameters
    ----------
    projections, phi : ndarray of shape (n_images, n_components)
        The first 11 components are drawn.
    class_score, theta : ndarray of shape (n_images,)
        Logit; its transform.
    title : str
        The question, above all.
    """
    n_components = min(phi.shape[1], MAX_PANELS - 1)
    n_columns = min(4, n_components + 1)
    n_rows = -(-(n_components + 1) // n_columns)
    figure = new_figure(1.9 * n_columns + 0.3, 1.75 * n_rows + 0.5)
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    panels = list(grid.flat)
    limit = 1.05 * max(float(np.abs(phi[:, :n_components]).max()), 1e-12)
    for component in range(n_components):
        axes = panels[component]
        axes.axhline(0, color="0.85", linewidth=0.6, zorder=0)
        axes.scatter(projections[:, component], phi[:, component], s=5, color=BLUE, linewidths=0)
        axes.set_ylim(-limit, limit)
        axes.set_xlabel(f"component {component + 1}")
        axes.set_ylabel(rf"$\phi_{{{component + 1}}}$")
    axes = panels[n_components]
    axes.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    axes.scatter(class_score, theta, s=5, color=ORANGE, linewidths=0)
    axes.set_xlabel("class score (logit)")
    axes.set_ylabel(r"$\theta$")
    for axes in panels[n_components + 1 :]:
        axes.remove()
    figure.suptitle(title)
    return figure
