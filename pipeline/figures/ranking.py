"""How the scores fall off from the best channel to the last, and what ACE made of the best one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter
from scipy.stats import norm

from pipeline.arrays import FloatArray
from pipeline.artifacts import Trust
from pipeline.figures.columns import is_correlation, score_label
from pipeline.figures.style import BLUE, GREY, ORANGE, new_figure
from pipeline.numerics.evidence import RELIABLE, reliability

N_NAMED = 5
MAX_PANELS = 12


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
    is_raw = table.by.iloc[0] == table.statistic.iloc[0]
    if "null_mean" in table and is_raw:
        band = norm.ppf(0.95) * living.null_deviation
        low, high = living.null_mean - band, living.null_mean + band
        axes.fill_between(living["rank"], low, high, color=GREY, alpha=0.25, linewidth=0, label="by chance, 90 %")
    if "low" in table and is_raw:
        axes.vlines(living["rank"], living.low, living.high, color=BLUE, alpha=0.3, linewidth=0.8, zorder=1)
        axes.scatter(
            living["rank"], living.corrected, s=7, facecolors="white", edgecolors=BLUE, linewidths=0.6, zorder=2,
            label="less its bias, 95 %",
        )  # fmt: skip
    axes.plot(living["rank"], living.score, color=BLUE, linewidth=1.2, zorder=2)
    axes.scatter(living["rank"], living.score, s=12, color=BLUE, zorder=3, label=f"{len(living)} channels")
    best = living.head(N_NAMED)
    named = ", ".join(str(channel) for channel in best.channel)
    axes.scatter(best["rank"], best.score, s=16, color=ORANGE, zorder=4, label=f"best channels: {named}")
    if len(dead):
        axes.scatter(dead["rank"], dead.score, s=14, color=GREY, marker="x", zorder=3, label=f"{len(dead)} dead")
    axes.legend(frameon=False, loc="upper right", ncols=2, fontsize=7)
    axes.set_xlabel("rank")
    axes.set_ylabel(f"score: {score_label(table)}")
    if is_correlation(table):
        axes.set_ylim(
            min(0.0, float(table.score.min())), 1.35 if table.score.max() > 0.6 else 1.02
        )  # the legend's room
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_xlim(0, len(table) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", linewidth=0.4, color="0.9")
    figure.suptitle(title)
    return figure


def draw_reliability(trust: Trust, n_images: int, title: str) -> Figure:
    """Return how well rankings by two sets of images agree, against the sets' size: measured, and as halves foretell.

    Parameters
    ----------
    trust : Trust
        With a curve.
    n_images : int
        Of the run.
    title : str
        The question, above all.
    """
    figure = new_figure(5.0, 3.4)
    axes = figure.add_subplot()
    sizes, agreement = np.array([size for size, _ in trust.curve]), np.array([value for _, value in trust.curve])
    reached = reliability(float(agreement[-1]))
    odds = reached / max(1e-9, 1 - reached) / n_images  # of one image: Spearman and Brown's formula adds them up
    ahead = np.geomspace(sizes[0], n_images * 16, 100)
    if odds > 0:
        axes.plot(
            ahead, odds * ahead / (1 + odds * ahead), color=BLUE, linewidth=1, label="Spearman-Brown, from halves"
        )
    axes.scatter(sizes, agreement, color=ORANGE, s=22, zorder=3, label="measured, disjoint sets")
    axes.axvline(n_images, color=GREY, linewidth=0.8, linestyle=":")
    axes.text(n_images, 0.02, f" this run: {n_images}", fontsize=7, color=GREY)
    for value, name in ((Trust.ENOUGH, "to be trusted"), (RELIABLE, "reliable")):
        axes.axhline(value, color="0.8", linewidth=0.8, zorder=0)
        axes.text(ahead[-1], value + 0.01, name, fontsize=7, color=GREY, ha="right")
    axes.set_xscale("log")
    axes.set_xlim(0.8 * ahead[0], ahead[-1])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("images")
    axes.set_ylabel("rank correlation of two rankings")
    axes.set_ylim(min(0.0, float(agreement.min()) - 0.05), 1.02)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)  # outside: a curve may run anywhere
    figure.suptitle(title)
    return figure


def draw_transforms(
    projections: FloatArray,
    phi: FloatArray,
    class_score: FloatArray,
    theta: FloatArray,
    score_label: str,
    title: str,
) -> Figure:
    """Return ACE's transforms of one channel: phi_j against component j, theta against the class score.

    Parameters
    ----------
    projections, phi : ndarray of shape (n_images, n_components)
        The first 11 components are drawn.
    class_score, theta : ndarray of shape (n_images,)
        The class scores, and their transform.
    score_label : str
        What the class score is, for the axis.
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
    axes.set_xlabel(score_label)
    axes.set_ylabel(r"$\theta$")
    for axes in panels[n_components + 1 :]:
        axes.remove()
    figure.suptitle(title)
    return figure
