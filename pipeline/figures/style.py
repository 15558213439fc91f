"""One look for every figure: quiet axes, readable text, colours that the colour-blind can tell apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from pipeline.arrays import FloatArray

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), the colours that stand apart for everybody.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
SKY, PINK, YELLOW = "#56B4E9", "#CC79A7", "#E69F00"
SERIES = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, "#000000")
MAP_COLOURS = "viridis"
OVERLAY_COLOURS = "inferno"  # runs from black through red to yellow: seen on a grey image, and lightness alone tells
OVERLAY_ALPHA = 0.8  # where the map is largest; it fades with the map, so that the rest of the image stays seen

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
    # The bundled font, so that two machines draw the same pixels.
    "font.family": "DejaVu Sans",
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw in this style inside the context; matplotlib's global settings stay as they were."""
    with mpl.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, `width` x `height` inches, that no global state holds on to."""
    return Figure(figsize=(width, height), layout="constrained")


def hide_ticks(axes: Axes) -> None:
    """Leave a picture's axes without ticks and frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def save_png(figure: Figure, path: Path, dpi: int) -> None:
    """Write the figure; no date and no version in the file, so that the same figure is the same bytes."""
    figure.savefig(path, dpi=dpi, metadata={"Software": None})


def show_picture(axes: Axes, picture: NDArray[np.uint8]) -> None:
    """Show an image, grey (height, width) or colour (height, width, 3), without ticks."""
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
    """Lay a map over an image drawn in grey: the map's colour and opacity run from `low` (unseen) to `high`.

    Parameters
    ----------
    axes : Axes
        Drawn into.
    picture : ndarray of shape (height, width) or (height, width, 3)
        uint8.
    activation : ndarray of shape (map_height, map_width)
        Interpolated bilinearly to the box's size.
    low, high : float
        The scale's ends.
    box : tuple of float, optional
        Left, top, right, bottom in pixels: the part of the image that the map covers. All of it by default.
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
    """Return the image's lightness, (height, width), in 0 to 255 (ITU-R BT.601)."""
    return picture if picture.ndim == 2 else picture @ np.array([0.299, 0.587, 0.114])


def opacity(activation: FloatArray, low: float, high: float) -> FloatArray:
    """Return how opaque a map is drawn over an image: 0 at `low`, rising fast, `OVERLAY_ALPHA` at `high`."""
    share: FloatArray = np.clip((activation - low) / max(high - low, 1e-12), 0, 1)
    shown: FloatArray = OVERLAY_ALPHA * np.sqrt(share)
    return shown


def add_scale(figure: Figure, axes: Axes, colours: str, low: float, high: float, *, upright: bool = False) -> Any:
    """Draw a colour bar of its own from `low` to `high` into `axes`, ends labelled, and return it."""
    mappable = ScalarMappable(Normalize(low, high if high > low else low + 1e-12), colours)
    bar = figure.colorbar(mappable, cax=axes, orientation="vertical" if upright else "horizontal")
    bar.outline.set_visible(False)
    ends = [low, high] if high > low else [low]
    bar.set_ticks(ends, labels=[f"{value:.2g}".replace("-", "−") for value in ends])
    bar.ax.tick_params(labelsize=7)
    return bar


def short(name: str, most: int = 18) -> str:
    """Return a name cut to what fits beside a picture."""
    return name if len(name) <= most else name[: most - 1] + "…"


def short_id(name: str, most: int = 18) -> str:
    """Return the end of a long image id: folders come first, what tells images apart last."""
    return name if len(name) <= most else "…" + name[1 - most :]
