"""The figures of a ranking in memory, drawn into figures of pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from pcace._views import Views
from pipeline.errors import InputError
from pipeline.figures.activation_maps import draw_activation_maps
from pipeline.figures.catalogue import FigureData, draw_cam_of, draw_maximization_of
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.figures.ranking import draw_ranking_curve, draw_transforms, plot_ranking_curve
from pipeline.figures.style import paper_style

AxesArray = NDArray[np.object_]


def plot_curve(ranked: RankedLayer, ax: Axes | None) -> Axes:
    """Draw the scores by rank into `ax`, or into a new figure."""
    table, question = ranked.ranking.table, ranked.question
    if ax is None:
        axes: Axes = drawn(lambda make: draw_ranking_curve(table, question, make))[0]
        return axes
    handles, labels = plot_ranking_curve(ax, table)
    ax.legend(handles, labels, frameon=False, fontsize=7)
    return ax


def plot_maps(
    ranked: RankedLayer, channels: Sequence[int], images: Sequence[int] | None, *, overlay: bool
) -> AxesArray:
    """Draw the activation maps of some channels.

    Parameters
    ----------
    ranked : RankedLayer
        The ranking.
    channels : sequence of int
        The channels; none for the best and the last ones.
    images : sequence of int or None
        The images; None for those that activate each channel most.
    overlay : bool
        Whether the maps are drawn over the images.
    """
    shown = replace(
        ranked.visualize,
        images="driving" if images is None else "spread",
        channels=tuple(channels),
        image_ids=() if images is None else tuple(map(str, images)),
    )
    ranked = replace(ranked, visualize=shown)
    _, n_top = ranked.channels
    return drawn(
        lambda make: draw_activation_maps(
            ranked.channel_maps, n_top, ranked.question, overlay=overlay, own_images=ranked.has_own_images, make=make
        )
    )


def plot_transforms(ranked: RankedLayer, channel: int) -> AxesArray:
    """Draw ACE's transforms for one channel; the ranker must be ACE."""
    fit = ranked.scores.fit
    assert fit is not None
    return drawn(
        lambda make: draw_transforms(
            ranked.projections.values[channel], fit.phi[channel], ranked.activations.class_score, fit.theta[channel],
            ranked.score_label, channel, ranked.question, make,
        )
    )  # fmt: skip


def plot_view(ranked: RankedLayer, views: Views, part: Literal["activation", "maximized"], name: str) -> AxesArray:
    """Draw a figure of what the network shows; `name` says what it is.

    Raises
    ------
    InputError
        If it was not computed.
    """
    data = FigureData(ranked, views.activation, views.maximized)
    if getattr(views, part) is None:
        reason = "; ".join(note for note in views.notes if name in note) or 'settings={"visualize.maximize": "never"}'
        raise InputError(f"the ranking must have {name} for this figure; got none ({reason}).")
    return drawn(lambda make: draw_cam_of(data, make) if part == "activation" else draw_maximization_of(data, make))


def drawn(draw: Any) -> AxesArray:
    """Return all axes of a figure that `draw` draws into a new figure of pyplot, in the style of the project."""

    def make(width: float, height: float, gap: float = 0.02) -> Figure:
        return pyplot.figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=gap))

    with paper_style():
        figure: Figure = draw(make)
    axes = np.empty(len(figure.axes), dtype=object)
    axes[:] = figure.axes
    return axes
