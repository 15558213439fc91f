"""The scores by rank, the reliability of the ranking, and ACE's transforms of one channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from pipeline.arrays import FloatArray
from pipeline.artifacts import Trust
from pipeline.figures.columns import NULL_BAND, is_correlation, score_label
from pipeline.figures.labels import set_title
from pipeline.figures.style import BLUE, GREY, ORANGE, FigureMaker, new_figure
from pipeline.numerics.evidence import RELIABLE, reliability

N_NAMED = 5
MAX_PANELS = 12
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def draw_ranking_curve(table: pd.DataFrame, question: str, make: FigureMaker = new_figure) -> Figure:
    """Draw the score against the rank. The best channels are named, and dead channels have another marker.

    If channels are ranked by the statistic of the ranker itself, the figure also shows the permutation null and the
    bias-corrected scores with their intervals, as far as the table contains them.

    Parameters
    ----------
    table : DataFrame
        Table of a `Ranking`.
    question : str
        Network, layer and class, for the title.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    figure = make(5.6, 3.4)
    handles, labels = plot_ranking_curve(figure.add_subplot(), table)
    # Outside of the axes, because scores and intervals may be anywhere.
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2, fontsize=7)
    set_title(figure, "Scores by rank", question)
    return figure


def plot_ranking_curve(axes: Axes, table: pd.DataFrame) -> tuple[list[Any], list[str]]:
    """Draw the curve of `draw_ranking_curve` into `axes`; return the handles and the labels of a legend."""
    varying, dead = table[~table.dead], table[table.dead]
    is_own_statistic = table.by.iloc[0] == table.statistic.iloc[0]
    handles: list[Any] = []
    labels: list[str] = []
    if "null_mean" in table and is_own_statistic:
        half = NULL_BAND * varying.null_deviation
        low, high = varying.null_mean - half, varying.null_mean + half
        band = axes.fill_between(varying["rank"], low, high, color=GREY, alpha=0.25, linewidth=0)
        (mean,) = axes.plot(varying["rank"], varying.null_mean, color=GREY, linewidth=0.8, zorder=1)
        handles.append((band, mean))
        labels.append("null mean, 90 % of the null")
    if "low" in table and is_own_statistic:
        interval = axes.vlines(
            varying["rank"], varying.low, varying.high, color=BLUE, alpha=0.3, linewidth=0.8, zorder=1
        )
        corrected = axes.scatter(
            varying["rank"], varying.corrected, s=7, facecolors="white", edgecolors=BLUE, linewidths=0.6, zorder=2
        )
        handles.append((interval, corrected))
        labels.append("bias-corrected, 95 % interval")
    axes.plot(varying["rank"], varying.score, color=BLUE, linewidth=1.2, zorder=2)
    handles.append(axes.scatter(varying["rank"], varying.score, s=12, color=BLUE, zorder=3))
    labels.append(f"score ({len(varying)} channels)")
    best = varying.head(N_NAMED)
    handles.append(axes.scatter(best["rank"], best.score, s=16, color=ORANGE, zorder=4))
    labels.append(f"best channels: {', '.join(str(channel) for channel in best.channel)}")
    if len(dead):
        handles.append(axes.scatter(dead["rank"], dead.score, s=14, color=GREY, marker="x", zorder=3))
        labels.append(f"dead ({len(dead)} channels)")
    axes.set_xlabel("rank")
    axes.set_ylabel(f"score: {score_label(table)}")
    if is_correlation(table):
        axes.set_ylim(min(0.0, float(table.score.min())), 1.02)
        axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_xlim(0, len(table) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", linewidth=0.4, color="0.9")
    return handles, labels


def draw_reliability(trust: Trust, n_images: int, question: str) -> Figure:
    """Draw the agreement of the rankings by two sets of images against their number of images.

    The figure shows the measured values, and those that the Spearman-Brown formula predicts from the halves.

    Parameters
    ----------
    trust : Trust
        Reliability of the ranking, with a curve.
    n_images : int
        Number of images of the run.
    question : str
        Network, layer and class, for the title.
    """
    figure = new_figure(5.0, 3.4)
    axes = figure.add_subplot()
    sizes, agreement = np.array([size for size, _ in trust.curve]), np.array([value for _, value in trust.curve])
    reached = reliability(float(agreement[-1]))
    # In the Spearman-Brown formula, reliability / (1 - reliability) is proportional to the number of images.
    odds = reached / max(1e-9, 1 - reached) / n_images
    ahead = np.geomspace(sizes[0], n_images * 16, 100)
    if odds > 0:
        predicted = odds * ahead / (1 + odds * ahead)
        axes.plot(ahead, predicted, color=BLUE, linewidth=1, label="predicted from the halves (Spearman-Brown)")
    axes.scatter(sizes, agreement, color=ORANGE, s=22, zorder=3, label="measured on disjoint sets")
    axes.axvline(n_images, color=GREY, linewidth=0.8, linestyle=":")
    height = 0.02 if reached > 0.5 else 0.5  # clear of the curve
    axes.text(n_images, height, f" this run: {n_images} images", fontsize=7, color=GREY)
    for value, name in ((Trust.ENOUGH, "not reliable below this line"), (RELIABLE, "target")):
        axes.axhline(value, color="0.8", linewidth=0.8, zorder=0)
        axes.text(ahead[-1], value - 0.01, f"{value:.1f}: {name}", fontsize=7, color=GREY, ha="right", va="top")
    axes.set_xscale("log")
    axes.set_xlim(0.8 * ahead[0], ahead[-1])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("number of images")
    axes.set_ylabel("Spearman correlation of two rankings")
    axes.set_ylim(min(0.0, float(agreement.min()) - 0.05), 1.02)
    # Outside of the axes, because the curve may be anywhere.
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)
    set_title(figure, "Split-half reliability", question)
    return figure


def draw_transforms(
    projections: FloatArray,
    phi: FloatArray,
    class_score: FloatArray,
    theta: FloatArray,
    score_label: str,
    channel: int,
    question: str,
    make: FigureMaker = new_figure,
) -> Figure:
    """Draw ACE's transforms of one channel: phi_j against component j, and theta against the class score.

    Parameters
    ----------
    projections, phi : ndarray of shape (n_images, n_components)
        Components, and their transforms. The first 11 are drawn.
    class_score, theta : ndarray of shape (n_images,)
        Class scores, and their transform.
    score_label : str
        Label of the axis of the class score.
    channel : int
        Index of the channel.
    question : str
        Network, layer and class, for the title.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    n_components = min(phi.shape[1], MAX_PANELS - 1)
    n_columns = min(4, n_components + 1)
    n_rows = -(-(n_components + 1) // n_columns)
    figure = make(1.9 * n_columns + 0.3, 1.75 * n_rows + 0.5)
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    panels = list(grid.flat)
    limit = 1.05 * max(float(np.abs(phi[:, :n_components]).max()), 1e-12)
    for component in range(n_components):
        axes = panels[component]
        axes.axhline(0, color="0.85", linewidth=0.6, zorder=0)
        axes.scatter(projections[:, component], phi[:, component], s=5, color=BLUE, linewidths=0)
        axes.set_ylim(-limit, limit)
        axes.set_xlabel(f"component {component + 1}")
        axes.set_ylabel("φ" + str(component + 1).translate(SUBSCRIPTS))
    axes = panels[n_components]
    axes.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    axes.scatter(class_score, theta, s=5, color=ORANGE, linewidths=0)
    axes.set_xlabel(score_label)
    axes.set_ylabel("θ")
    for axes in panels[n_components + 1 :]:
        axes.remove()
    set_title(figure, f"ACE transforms of channel {channel}", question)
    return figure
