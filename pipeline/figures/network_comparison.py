"""The figure that compares networks along their depth."""

from __future__ import annotations

from matplotlib.figure import Figure

from pipeline.figures.labels import fitted, in_legend, set_title
from pipeline.figures.style import SERIES, FigureMaker, new_figure
from pipeline.network_comparison import NetworkComparison

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("-", "--", ":", "-.")
NAME, NAME_SIZE = 3.2, 8.0  # width in inches and size in points of the name of a network
# Column, label of the axis.
PANELS = (
    ("association", "cross-fitted correlation\nof the whole layer"),
    ("share_significant", "share of channels\nwith q < .05"),
    ("spearman", "rank correlation with\nthe first network"),
)


def draw_network_comparison(found: NetworkComparison, make: FigureMaker = new_figure) -> Figure:
    """Draw association, share of channels that stand out and agreement of the channels' ranks along the depth.

    Parameters
    ----------
    found : NetworkComparison
        The comparison. Panels without values are left out.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    panels = [(name, label) for name, label in PANELS if found.layers[name].notna().any()]
    panels = panels or [PANELS[0]]
    figure = make(8.0, 0.9 + 2.1 * len(panels) + 0.2 * -(-len(found.labels) // 2))
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, label) in zip(rows, panels, strict=True):
        for place, network in enumerate(found.labels):
            own = found.layers[(found.layers.network == place) & found.layers[name].notna()]
            if len(own):
                axes.plot(
                    own.depth, own[name], STYLES[place % len(STYLES)], marker=MARKERS[place % len(MARKERS)],
                    color=SERIES[place % len(SERIES)], markersize=4, linewidth=1.2,
                    label=in_legend(fitted(network, NAME, NAME_SIZE, "middle")),
                )  # fmt: skip
        low = min(0.0, float(found.layers[name].min())) if found.layers[name].notna().any() else 0.0
        axes.set_ylim(1.1 * low - 0.03, 1.05)
        axes.axhline(0, color="0.6", linewidth=0.6, zorder=0)
        axes.grid(axis="y", linewidth=0.4, color="0.9")
        axes.set_ylabel(label)
    rows[-1].set_xlabel("depth (share of the network's modules that have run before)")
    rows[-1].set_xlim(-0.03, 1.03)
    handles, labels = rows[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
    set_title(figure, "Comparison of networks along their depth")
    return figure
