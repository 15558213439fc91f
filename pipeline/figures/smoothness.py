"""The choice of the smoothness of ACE's splines: the held-out correlation over the grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.figures.labels import set_footer, set_title
from pipeline.figures.style import ORANGE, new_figure


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
    figure = new_figure(1.75 * len(shrinkage) + 1.3, 3.0)
    panels = figure.subplots(1, len(shrinkage), sharex=True, sharey=True, squeeze=False)[0]
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
    bar = figure.colorbar(shown, ax=list(panels), aspect=25)
    bar.set_label("mean held-out correlation")
    bar.outline.set_visible(False)
    set_footer(
        figure,
        "curvature of the class score's transform; x: the best setting. Chosen, as a weighted mean: "
        f"{chosen['predictors']:.2f}, {chosen['response']:.2f}, shrinkage {chosen['shrinkage']:.2f}",
    )
    set_title(figure, "Smoothness by cross-validation", title)
    return figure
