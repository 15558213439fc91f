"""Class activation maps over the images, the most probable classes, and the channel-weighted map."""

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
from pipeline.figures.labels import fitted, set_title, signed, wrapped
from pipeline.figures.style import (
    BLUE,
    GREY,
    OVERLAY_COLOURS,
    FigureMaker,
    add_scale,
    as_grey,
    new_figure,
    opacity,
    show_overlay,
    show_picture,
)
from pipeline.networks.attribution import ClassActivation

N_PREDICTIONS = 5
CELL = 1.35  # inches
NAME_SIZE = 7.0  # points
IMAGE_NAME = 1.1  # inches, for the id of an image beside or above it
CLASS_NAME = 0.9  # inches, for the name of a class below a map
BAR_NAME = 1.1  # inches, for the name of a class beside a bar

# What a colour bar measures, by the method of the maps.
UNITS = {"CAM": "contribution to the class score", "Grad-CAM": "gradient-weighted activation"}

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SizedImage:
    """One image at its original size.

    Attributes
    ----------
    picture : ndarray of shape (height, width) or (height, width, 3)
        Image, uint8.
    name : str
        Id of the image.
    box : tuple of float
        Left, top, right and bottom in pixels of the part that the network sees, and that maps cover.
    """

    picture: NDArray[np.uint8]
    name: str
    box: Box


def draw_cam(
    images: Sequence[SizedImage],
    found: ClassActivation,
    class_names: Sequence[str],
    target_class: int,
    question: str,
    make: FigureMaker = new_figure,
) -> Figure:
    """Draw one row per image: the image, the maps of the target and the predicted class, and the five best classes.

    For a network with one output, the output is drawn instead of probabilities, and there is no predicted class.

    Parameters
    ----------
    images : sequence of SizedImage
        Images at their original sizes.
    found : ClassActivation
        Predictions and maps. All maps are drawn on one scale that begins at 0; negative values, which reduce the score
        of the class, are invisible.
    class_names : sequence of str
        Name of each output.
    target_class : int
        Index of the target class, whose bar is coloured.
    question : str
        Network, layer and class, for the title.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    n_rows = len(images)
    both = [maps for maps in (found.target_maps, found.predicted_maps) if maps is not None]
    ratios = [1.0, *[1.0] * len(both), *([0.07] if both else []), 0.25, 1.5]
    figure = make(CELL * sum(ratios) + 0.6, CELL * n_rows + 0.9)
    grid = figure.add_gridspec(n_rows, len(ratios), width_ratios=ratios)
    high = max((float(maps.max()) for maps in both), default=0.0)
    for row, image in enumerate(images):
        axes = figure.add_subplot(grid[row, 0])
        show_picture(axes, image.picture)
        axes.set_ylabel(fitted(image.name, IMAGE_NAME, NAME_SIZE, "start"), fontsize=NAME_SIZE)
        if row == 0:
            axes.set_title("image")
        shown_classes = (target_class, int(found.predicted[row]))
        for column, (maps, shown_class) in enumerate(zip(both, shown_classes, strict=False), start=1):
            axes = figure.add_subplot(grid[row, column])
            show_overlay(axes, image.picture, maps[row], 0.0, high, image.box)
            axes.set_xlabel(fitted(class_names[shown_class], CLASS_NAME, NAME_SIZE), fontsize=NAME_SIZE, labelpad=2)
            if row == 0:
                axes.set_title(("target class", "predicted class")[column - 1])
        axes, is_last = figure.add_subplot(grid[row, -1]), row == n_rows - 1
        if found.probabilities is None:
            _draw_output(axes, found.outputs[:, 0], row, class_names[0], is_last=is_last)
        else:
            _draw_predictions(axes, found.probabilities[row], class_names, target_class, is_last=is_last)
    if both:
        bar = add_scale(figure, figure.add_subplot(grid[:, 1 + len(both)]), OVERLAY_COLOURS, 0.0, high, upright=True)
        bar.set_label(wrapped(UNITS[str(found.method)], CELL * n_rows, NAME_SIZE), fontsize=NAME_SIZE)
    without_maps = "Output" if found.probabilities is None else "Most probable classes"
    heading = f"Class activation maps ({found.method})" if found.method else without_maps
    set_title(figure, heading, question)
    return figure


def draw_channel_weighted(images: Sequence[SizedImage], maps: FloatArray, n_channels: int, question: str) -> Figure:
    """Draw the images in a row, and below each the channel-weighted map over it.

    Parameters
    ----------
    images : sequence of SizedImage
        Images at their original sizes.
    maps : ndarray of shape (n_images, map_height, map_width)
        Result of `channel_weighted`.
    n_channels : int
        Number of best channels that the maps were computed from.
    question : str
        Network, layer and class, for the title.
    """
    n_images = len(images)
    figure = new_figure(CELL * n_images + 0.9, CELL * 2 + 0.65)
    grid = figure.add_gridspec(2, n_images + 1, width_ratios=[*[1.0] * n_images, 0.07])
    low, high = float(maps.min()), float(maps.max())
    for column, image in enumerate(images):
        axes = figure.add_subplot(grid[0, column])
        show_picture(axes, image.picture)
        axes.set_title(fitted(image.name, IMAGE_NAME, NAME_SIZE, "start"), fontsize=NAME_SIZE)
        show_overlay(figure.add_subplot(grid[1, column]), image.picture, maps[column], low, high, image.box)
    bar = add_scale(figure, figure.add_subplot(grid[:, n_images]), OVERLAY_COLOURS, low, high, upright=True)
    bar.set_label("|activation − median| / standard deviation,\naverage weighted by score", fontsize=NAME_SIZE)
    set_title(figure, f"Score-weighted deviation of the {n_channels} best channels", question)
    return figure


def channel_weighted(
    maps: Sequence[FloatArray], weights: Sequence[float], chosen: Sequence[int]
) -> NDArray[np.float64]:
    """Return the weighted average over channels of their deviation from the median, on the chosen images.

    The deviation of a channel is ``abs(activation - median) / standard deviation``, with the median and the standard
    deviation over all images and positions. The median is the output of the channel where it does not respond. Like the
    score, the deviation does not depend on the sign and the scale of the activation, so it can be used before and after
    a ReLU or a normalisation.

    Parameters
    ----------
    maps : sequence of ndarray of shape (n_images, map_height, map_width)
        Activation maps of each channel.
    weights : sequence of float
        Weight of each channel, at least 0, and not all 0.
    chosen : sequence of int
        Indices of the images.

    Returns
    -------
    ndarray of shape (n_chosen, map_height, map_width)
        Average deviation in standard deviations, at least 0.
    """
    total = np.zeros((len(chosen), *maps[0].shape[1:]))
    for channel, weight in zip(maps, weights, strict=True):
        values = np.asarray(channel, dtype=np.float64)
        total += weight * np.abs(values[list(chosen)] - np.median(values)) / max(float(values.std()), 1e-12)
    return total / sum(weights)


def overlay_image(image: SizedImage, activation: FloatArray, high: float) -> Image.Image:
    """Return the image in grey at its original size, with a map over the part that the network sees."""
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
    """Draw the most probable classes as bars, the most probable one on top."""
    best = np.argsort(-probabilities, kind="stable")[:N_PREDICTIONS][::-1]
    places = np.arange(len(best))
    colours = [BLUE if index == target_class else GREY for index in best]
    axes.barh(places, probabilities[best], color=colours, height=0.7)
    axes.set_yticks(places, [fitted(class_names[index], BAR_NAME, NAME_SIZE) for index in best], fontsize=NAME_SIZE)
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


def _draw_output(axes: Axes, outputs: FloatArray, row: int, name: str, *, is_last: bool) -> None:
    """Draw the output of one image as a bar, on an axis for the outputs of all images, (n_images,)."""
    value, low, high = float(outputs[row]), min(0.0, float(outputs.min())), max(0.0, float(outputs.max()))
    axes.barh([0], [value], color=BLUE, height=0.2)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks([0], [fitted(name, BAR_NAME, NAME_SIZE)], fontsize=NAME_SIZE)
    axes.set_ylim(-0.5, 0.5)
    margin = 0.05 * max(high - low, 1e-12)
    axes.set_xlim(low - margin, high + margin)
    axes.set_title(signed(value, ".3g"), fontsize=NAME_SIZE, pad=2)
    axes.tick_params(axis="x", labelsize=7, labelbottom=is_last)
    if is_last:
        axes.set_xlabel("output", fontsize=8)
