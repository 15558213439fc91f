"""The choice of the smoothness of ACE's splines: the held-out correlation over the grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from pipeline.figures.labels import set_footer, set_title
from pipeline.figures.style import BLUE, ORANGE, new_figure


def draw_smoothness(choice: Mapping[str, Any], title: str) -> Figure:
    """Return a heat map of the mean held-out correlation for each shrinkage, and the chosen smoothness.

    Parameters
    ----------
    choice : mapping
        Fields of `pipeline.numerics.spline_smoothness.SmoothnessChoice`: the grid, ``mean_correlation`` of shape
        (n_shrinkage, n_predictors, n_response), and ``smoothness``.
    title : str
        Network, layer and class.
    """
    values = np.array(choice["mean_correlation"])
    predictors, response, shrinkage = (choice[name] for name in ("predictors", "response", "shrinkage"))
    chosen = choice["smoothness"]
    has_components = len(choice["components"]) > 1
    figure = new_figure(1.75 * len(shrinkage) + 1.3 + 2.2 * has_components, 3.0)
    grid: Figure | SubFigure = figure
    if has_components:
        widths = (1.75 * len(shrinkage) + 1.3, 2.2)
        grid, beside = figure.subfigures(1, 2, squeeze=False, width_ratios=widths)[0]
        _draw_components(beside.subplots(), choice)
    panels = grid.subplots(1, len(shrinkage), sharex=True, sharey=True, squeeze=False)[0]
    low, high = float(values.min()), float(values.max())
    best = np.unravel_index(int(values.argmax()), values.shape)
    for place, axes in enumerate(panels):
        shown = axes.imshow(values[place], cmap="cividis", vmin=low, vmax=high, origin="lower", aspect="auto")
        axes.set_title(f"shrinkage {shrinkage[place]:g}")
        axes.set_xticks(range(len(response)), [f"{value:g}" for value in response], rotation=90)
        axes.set_yticks(range(len(predictors)), [f"{value:g}" for value in predictors])
        if place == best[0]:
            axes.plot(best[2], best[1], "x", color=ORANGE, markersize=7, markeredgewidth=1.8)
    panels[0].set_ylabel("curvature of the components' transforms")
    bar = grid.colorbar(shown, ax=list(panels), aspect=25)
    bar.set_label("mean held-out correlation")
    bar.outline.set_visible(False)
    rule = "as a weighted mean" if choice["is_associated"] else "for lack of an association, the typical smoothness"
    set_footer(
        figure,
        f"curvature of the class score's transform; x: the best setting. Chosen, {rule}: "
        f"{chosen['predictors']:.2f}, {chosen['response']:.2f}, shrinkage {chosen['shrinkage']:.2f}",
    )
    set_title(figure, "Smoothness by cross-validation", title)
    return figure


def _draw_components(axes: Axes, choice: Mapping[str, Any]) -> None:
    """Draw the mean held-out correlation for each number of components, with the chosen number marked."""
    numbers, values = list(choice["components"]), list(choice["components_correlation"])
    axes.plot(numbers, values, "o-", color=BLUE, markersize=3.5, linewidth=1)
    chosen = choice["n_components"]
    axes.plot(chosen, values[numbers.index(chosen)], "x", color=ORANGE, markersize=7, markeredgewidth=1.8)
    axes.set_xlabel("components")
    axes.set_ylabel("mean held-out correlation")
    axes.set_title(f"{chosen} component{'s' if chosen > 1 else ''} chosen")
