"""Where the network looks: class activation maps over the images, and what it takes each image for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipeline.arrays import FloatArray
from pipeline.figures.style import (
    BLUE,
    GREY,
    OVERLAY_COLOURS,
    add_scale,
    as_grey,
    new_figure,
    opacity,
    short,
    short_id,
    show_overlay,
    show_picture,
)
from pipeline.networks.attribution import ClassActivation

N_PREDICTIONS = 5
CELL = 1.35  # inches

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SizedImage:
    """One image at its own size.

    Attributes
    ----------
    picture : ndarray of shape (height, width) or (height, width, 3)
        uint8.
    name : str
        Its id.
    box : tuple of float
        Left, top, right, bottom in pixels: the part that the network saw, and that its maps cover.
    """

    picture: NDArray[np.uint8]
    name: str
    box: Box


def draw_cam(
    images: Sequence[SizedImage], found: ClassActivation, class_names: Sequence[str], target_class: int, title: str
) -> Figure:
    """Return a row per image: the image, the maps of the target and of the predicted class, its five best guesses.

    Parameters
    ----------
    images : sequence of SizedImage
        At their own sizes.
    found : ClassActivation
        Its maps are drawn on one scale; what speaks against a class is drawn as nothing.
    class_names : sequence of str
        One per output.
    target_class : int
        Its bar is coloured.
    title : str
        The question, above all.
    """
    n_rows = len(images)
    both = [maps for maps in (found.target_maps, found.predicted_maps) if maps is not None]
    ratios = [1.0, *[1.0] * len(both), *([0.07] if both else []), 0.25, 1.5]
    figure = new_figure(CELL * sum(ratios) + 0.6, CELL * n_rows + 0.9)
    grid = figure.add_gridspec(n_rows, len(ratios), width_ratios=ratios)
    high = max((float(maps.max()) for maps in both), default=0.0)
    for row, image in enumerate(images):
        axes = figure.add_subplot(grid[row, 0])
        show_picture(axes, image.picture)
        axes.set_ylabel(short_id(image.name), fontsize=7)
        if row == 0:
            axes.set_title("image")
        shown_classes = (target_class, int(found.predicted[row]))
        for column, (maps, shown_class) in enumerate(zip(both, shown_classes, strict=False), start=1):
            axes = figure.add_subplot(grid[row, column])
            show_overlay(axes, image.picture, maps[row], 0.0, high, image.box)
            axes.set_xlabel(short(class_names[shown_class]), fontsize=7, labelpad=2)
            if row == 0:
                axes.set_title(f"{found.method}, {('target', 'predicted')[column - 1]}")
        axes = figure.add_subplot(grid[row, -1])
        _draw_predictions(axes, found.probabilities[row], class_names, target_class, is_last=row == n_rows - 1)
    if both:
        bar = add_scale(figure, figure.add_subplot(grid[:, 3]), OVERLAY_COLOURS, 0.0, high, upright=True)
        bar.set_label("what the place adds to the class score", fontsize=7)
    figure.suptitle(f"Where the class is seen: {title}")
    return figure


def draw_channel_weighted(images: Sequence[SizedImage], maps: FloatArray, n_channels: int, title: str) -> Figure:
    """Return the images in a row, below each what the `n_channels` best-ranked channels look at in it.

    Parameters
    ----------
    images : sequence of SizedImage
        At their own sizes.
    maps : ndarray of shape (n_images, map_height, map_width)
        From `channel_weighted`.
    n_channels : int
        How many channels were taken together.
    title : str
        The question, above all.
    """
    n_images = len(images)
    figure = new_figure(CELL * n_images + 0.9, CELL * 2 + 0.65)
    grid = figure.add_gridspec(2, n_images + 1, width_ratios=[*[1.0] * n_images, 0.07])
    low, high = float(maps.min()), float(maps.max())
    for column, image in enumerate(images):
        axes = figure.add_subplot(grid[0, column])
        show_picture(axes, image.picture)
        axes.set_title(short_id(image.name), fontsize=7)
        show_overlay(figure.add_subplot(grid[1, column]), image.picture, maps[column], low, high, image.box)
    bar = add_scale(figure, figure.add_subplot(grid[:, n_images]), OVERLAY_COLOURS, low, high, upright=True)
    bar.set_label("departure from rest,\nweighted by score (deviations)", fontsize=7)
    figure.suptitle(f"What the {n_channels} best channels look at: {title}")
    return figure


def channel_weighted(
    maps: Sequence[FloatArray], weights: Sequence[float], chosen: Sequence[int]
) -> NDArray[np.float64]:
    """Return where channels depart from rest on the chosen images, averaged with the channels' scores as weights.

    A channel's departure is ``|activation - its median| / its standard deviation``, both over all images and places:
    the median is what it puts out where nothing concerns it. That holds before and after a ReLU or a normalisation,
    where the sign of an activation means different things, and like the score it is blind to sign and scale.

    Parameters
    ----------
    maps : sequence of ndarray of shape (n_images, map_height, map_width)
        One per channel.
    weights : sequence of float
        One per channel, not all 0.
    chosen : sequence of int
        Indices of images.

    Returns
    -------
    ndarray of shape (n_chosen, map_height, map_width)
        In standard deviations, 0 and above.
    """
    total = np.zeros((len(chosen), *maps[0].shape[1:]))
    for channel, weight in zip(maps, weights, strict=True):
        values = np.asarray(channel, dtype=np.float64)
        total += weight * np.abs(values[list(chosen)] - np.median(values)) / max(float(values.std()), 1e-12)
    return total / sum(weights)


def overlay_image(image: SizedImage, activation: FloatArray, high: float) -> Image.Image:
    """Return the image in grey at its own size, a map over the part that the network saw, as `draw_cam` shows it."""
    height, width = image.picture.shape[:2]
    left, top, right, bottom = (round(edge) for edge in image.box)
    size = (max(1, right - left), max(1, bottom - top))
    scaled = np.asarray(Image.fromarray(activation.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    colours = colormaps[OVERLAY_COLOURS](np.clip(scaled / max(high, 1e-12), 0, 1))
    colours[..., 3] = opacity(scaled, 0.0, high)
    layer = Image.new("RGBA", (width, height))
    layer.paste(Image.fromarray((colours * 255).round().astype(np.uint8)), (left, top))
    grey = Image.fromarray(np.asarray(as_grey(image.picture)).round().astype(np.uint8)).convert("RGBA")
    return Image.alpha_composite(grey, layer).convert("RGB")


def _draw_predictions(
    axes: Axes, probabilities: FloatArray, class_names: Sequence[str], target_class: int, *, is_last: bool
) -> None:
    """Draw the best guesses as bars, the best on top."""
    best = np.argsort(-probabilities, kind="stable")[:N_PREDICTIONS][::-1]
    places = np.arange(len(best))
    colours = [BLUE if index == target_class else GREY for index in best]
    axes.barh(places, probabilities[best], color=colours, height=0.7)
    axes.set_yticks(places, [short(class_names[index]) for index in best], fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"] if is_last else ["", "", ""], fontsize=7)
    for place, index in enumerate(best):
        value = float(probabilities[index])
        inside = value > 0.75
        axes.text(
            value + (-0.02 if inside else 0.02),
            place,
            f"{value:.1%}",
            va="center",
            fontsize=6.5,
            ha="right" if inside else "left",
            color="white" if inside else "black",
        )
    if is_last:
        axes.set_xlabel("probability", fontsize=8)
