"""The style of all figures: fonts, axes, and colours that people with colour blindness can distinguish."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from pipeline.arrays import FloatArray
from pipeline.figures.fonts import families
from pipeline.figures.labels import signed

# The palette of Okabe and Ito (https://jfly.uni-koeln.de/color/), which is safe for people with colour blindness.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
SKY, PINK, YELLOW = "#56B4E9", "#CC79A7", "#E69F00"
SERIES = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, "#000000")
MAP_COLOURS = "viridis"
OVERLAY_COLOURS = "inferno"  # from black through red to yellow: visible on a grey image, and monotonic in lightness
OVERLAY_ALPHA = 0.8  # opacity of the largest value of a map; smaller values are more transparent

_RC: Any = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "figure.titlesize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # Names of images, classes and layers come from users: a dollar sign in them must not start a formula.
    "text.parse_math": False,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw in this style inside the context, without changing matplotlib's global settings."""
    with mpl.rc_context({**_RC, "font.family": list(families())}):
        yield


FigureMaker = Callable[..., Figure]
"""Makes an empty figure: ``make(width, height, gap=...)``, see `new_figure`."""


def new_figure(width: float, height: float, gap: float = 0.02) -> Figure:
    """Return an empty figure of `width` x `height` inches that is not registered with pyplot.

    `gap` is the space between columns of axes, relative to the width of the axes.
    """
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=gap))


def hide_ticks(axes: Axes) -> None:
    """Remove the ticks and the frame of a picture's axes."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def render_png(figure: Figure, dpi: int) -> bytes:
    """Return the figure as a PNG file without date and version, so that the same figure gives the same bytes."""
    buffer = BytesIO()
    with paper_style():  # ticks and their labels are created only now
        _switch_off_empty_axes(figure)
        # The layout is computed here once. Otherwise `savefig` would draw the figure a first time only to compute it.
        before, engine = figure.get_dpi(), figure.get_layout_engine()
        figure.set_dpi(dpi)
        if engine is not None:
            engine.execute(figure)
            figure.set_layout_engine(None)
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        figure.set_dpi(before)
        figure.set_layout_engine(engine)
    return buffer.getvalue()


def _switch_off_empty_axes(figure: Figure) -> None:
    """Switch off axes that have no ticks, labels and frames, such as those of pictures: laying them out takes time."""
    for axes in figure.axes:
        has_ticks = len(axes.get_xticks()) + len(axes.get_yticks()) > 0
        has_frame = any(spine.get_visible() for spine in axes.spines.values())
        if not (has_ticks or has_frame or axes.get_xlabel() or axes.get_ylabel()):
            axes.set_axis_off()


def save_png(figure: Figure, path: Path, dpi: int) -> None:
    """Write the figure to a PNG file, see `render_png`."""
    path.write_bytes(render_png(figure, dpi))


def show_picture(axes: Axes, picture: NDArray[np.uint8]) -> None:
    """Show a grey image of shape (height, width) or a colour image of shape (height, width, 3), without ticks."""
    axes.imshow(picture, cmap="gray" if picture.ndim == 2 else None, vmin=0, vmax=255)
    hide_ticks(axes)


def show_overlay(
    axes: Axes,
    picture: NDArray[np.uint8],
    activation: FloatArray,
    low: float,
    high: float,
    box: tuple[float, float, float, float] | None = None,
) -> AxesImage:
    """Show a map over its image, which is drawn in grey.

    Parameters
    ----------
    axes : Axes
        Axes to draw into.
    picture : ndarray of shape (height, width) or (height, width, 3)
        Image, uint8.
    activation : ndarray of shape (map_height, map_width)
        Map, interpolated bilinearly to the size of the box.
    low, high : float
        Ends of the colour scale: the map is invisible at `low`, and most opaque at `high`.
    box : tuple of float, optional
        Left, top, right and bottom in pixels of the part of the image that the map covers. The whole image by default.

    Returns
    -------
    AxesImage
        The map.
    """
    height, width = picture.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    grey = as_grey(picture)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    share = opacity(activation, low, high)
    shown = axes.imshow(
        activation, cmap=OVERLAY_COLOURS, vmin=low, vmax=max(high, low + 1e-12), alpha=share,
        interpolation="bilinear", extent=(left - 0.5, right - 0.5, bottom - 0.5, top - 0.5),
    )  # fmt: skip
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    hide_ticks(axes)
    return shown


def as_grey(picture: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the luma of an image (ITU-R BT.601), of shape (height, width), in [0, 255]."""
    return picture if picture.ndim == 2 else picture @ np.array([0.299, 0.587, 0.114])


def opacity(activation: FloatArray, low: float, high: float) -> FloatArray:
    """Return the opacity of a map over an image: 0 at `low`, `OVERLAY_ALPHA` at `high`, a square root in between."""
    share: FloatArray = np.clip((activation - low) / max(high - low, 1e-12), 0, 1)
    shown: FloatArray = OVERLAY_ALPHA * np.sqrt(share)
    return shown


def add_scale(figure: Figure, axes: Axes, colours: str, low: float, high: float, *, upright: bool = False) -> Any:
    """Draw a colour bar from `low` to `high` into `axes`, with labels at its ends, and return it."""
    mappable = ScalarMappable(Normalize(low, high if high > low else low + 1e-12), colours)
    bar = figure.colorbar(mappable, cax=axes, orientation="vertical" if upright else "horizontal")
    bar.outline.set_visible(False)
    ends = [low, high] if high > low else [low]
    bar.set_ticks(ends, labels=[signed(value, ".2g") for value in ends])
    bar.ax.tick_params(labelsize=7)
    if not upright and len(ends) > 1:  # inside the ends of the bar, clear of the labels of the bars beside it
        first, last = bar.ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
    return bar
