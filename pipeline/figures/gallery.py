"""What the report shows of every channel: a small map, the image that drives it most, ACE's transforms.

All of it fits a few megabytes for hundreds of channels: maps lie in one picture, images are thumbnails, and the
points of the transforms are bytes, 256 steps along each axis, finer than the report draws them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from pipeline.arrays import FloatArray
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.figures.style import MAP_COLOURS, OVERLAY_COLOURS, as_grey, opacity
from pipeline.networks.maximization import Maximized

MAP_SIDE = 28  # pixels at most; larger maps are averaged
IMAGE_SIDE = 96
EXACT_SIDE = 48  # up to here an image is kept pixel by pixel
CARD_SIDE = 112
MAX_COMPONENTS = 7
MAX_POINTS = 200
MAX_CHANNELS = 512  # with transforms, the best ones

Picture = NDArray[np.uint8]


def gallery(ranked: RankedLayer, found: Maximized | None) -> dict[str, Any]:
    """Return what the report shows, in plain JSON types: channels in order of rank, their images, maps and points."""
    channels = [int(channel) for channel in ranked.ranking.table.channel]
    images = sorted({ranked.most_activating[channel] for channel in channels})
    maps = [np.asarray(ranked.activations.maps[channel, ranked.most_activating[channel]]) for channel in channels]
    return {
        "images": [
            {"name": name, "src": thumbnail(picture)}
            for name, picture in zip(ranked.names(images), _pictures(ranked, images), strict=True)
        ],
        "channels": [
            {
                "channel": channel,
                "image": images.index(ranked.most_activating[channel]),
                "mean": _rounded(ranked.means[channel].max()),
                "low": _rounded(values.min()),
                "high": _rounded(values.max()),
            }
            for channel, values in zip(channels, maps, strict=True)
        ],
        "maps": map_sheet([small_map(values) for values in maps]),
        "transforms": _transforms(ranked, channels),
        "maximized": [] if found is None else [
            {"channel": channel, "src": thumbnail(picture), "reached": _rounded(reached), "real": _rounded(real)}
            for channel, picture, reached, real in zip(
                ranked.maximized_channels, found.pictures, found.reached, found.best_real, strict=True
            )
        ],
    }  # fmt: skip


def _transforms(ranked: RankedLayer, channels: Sequence[int]) -> dict[str, Any] | None:
    fit = ranked.scores.fit
    if fit is None:
        return None
    return transform_points(ranked.projections.values, fit.phi, ranked.activations.class_score, fit.theta, channels)


def _pictures(ranked: RankedLayer, indices: Sequence[int]) -> Iterator[Picture]:
    """Give what the network saw, a few images at a time: hundreds of photographs would fill memory."""
    for start in range(0, len(indices), 32):
        yield from ranked.pictures(indices[start : start + 32])


def small_map(activation: FloatArray) -> FloatArray:
    """Return a map of at most `MAP_SIDE` pixels a side, each the mean of those it stands for."""
    height, width = activation.shape
    factor = max(1.0, max(height, width) / MAP_SIDE)
    if factor == 1.0:
        return activation
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    reduced = Image.fromarray(np.asarray(activation, dtype=np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(reduced)


def map_sheet(maps: Sequence[FloatArray]) -> dict[str, Any]:
    """Return one picture of all maps, row by row, each coloured from its own lowest to its own highest value."""
    height, width = maps[0].shape
    n_columns = min(len(maps), 32)
    sheet = np.zeros((-(-len(maps) // n_columns) * height, n_columns * width), dtype=np.uint8)
    for index, values in enumerate(maps):
        low, high = float(values.min()), float(values.max())
        row, column = divmod(index, n_columns)
        levels = np.round((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = levels
    image = Image.fromarray(sheet).convert("P")
    image.putpalette((colormaps[MAP_COLOURS](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes())
    return {"src": data_uri(image), "columns": n_columns, "width": width, "height": height, "cells": len(maps)}


def thumbnail(picture: Picture) -> str:
    """Return an image of at most `IMAGE_SIDE` pixels a side as a data address; small ones stay exact."""
    image = Image.fromarray(picture)
    if max(image.size) <= EXACT_SIDE:
        return data_uri(image)
    image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    return data_uri(image, "JPEG")


def data_uri(image: Image.Image, kind: str = "PNG") -> str:
    """Return a picture as an address that holds it, ``data:image/png;base64,...``."""
    buffer = BytesIO()
    options: dict[str, Any] = {"optimize": True} if kind == "PNG" else {"quality": 85}
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def transform_points(
    projections: FloatArray, phi: FloatArray, class_score: FloatArray, theta: FloatArray, channels: Sequence[int]
) -> dict[str, Any]:
    """Return the channels' transforms as bytes: for each, a panel per component and one for theta, of (x, y) points.

    Parameters
    ----------
    projections, phi : ndarray of shape (n_channels, n_images, n_components)
        The first `MAX_COMPONENTS` components are taken.
    class_score : ndarray of shape (n_images,)
        Logit.
    theta : ndarray of shape (n_channels, n_images)
        Its transforms.
    channels : sequence of int
        In this order; the first `MAX_CHANNELS` are taken.
    """
    n_images = len(class_score)
    kept = np.unique(np.linspace(0, n_images - 1, min(n_images, MAX_POINTS)).round().astype(int))
    n_components = min(projections.shape[2], MAX_COMPONENTS)
    taken = list(channels[:MAX_CHANNELS])
    points = np.empty((len(taken), n_components + 1, len(kept), 2), dtype=np.uint8)
    ranges: list[list[list[float]]] = []
    for index, channel in enumerate(taken):
        panels = [(projections[channel, :, each], phi[channel, :, each]) for each in range(n_components)]
        limit = max((float(np.abs(y).max()) for _, y in panels), default=0.0)
        ranges.append([])
        for place, (x, y) in enumerate([*panels, (class_score, theta[channel])]):
            ends = (float(x.min()), float(x.max()))
            most = limit if place < n_components else float(np.abs(y).max())
            points[index, place, :, 0] = _levels(x[kept], *ends)
            points[index, place, :, 1] = _levels(y[kept], -most, most)
            ranges[-1].append([round(value, 4) for value in (*ends, -most, most)])
    return {
        "channels": taken,
        "components": n_components,
        "left_out": projections.shape[2] - n_components,
        "points": len(kept),
        "ranges": ranges,
        "bytes": base64.b64encode(points.tobytes()).decode(),
    }


def draw_card(picture: Picture, activation: FloatArray) -> Image.Image:
    """Return the channel in one strip: the image that drives it most, its map, the map over the image."""
    size = (CARD_SIDE, CARD_SIDE)
    low, high = float(activation.min()), float(activation.max())
    share = (activation - low) / max(high - low, 1e-12)
    plain = Image.fromarray((colormaps[MAP_COLOURS](share)[..., :3] * 255).round().astype(np.uint8))
    smooth = np.asarray(Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    colours = colormaps[OVERLAY_COLOURS](smooth)
    colours[..., 3] = opacity(smooth, 0.0, 1.0)
    grey = Image.fromarray(np.asarray(as_grey(picture)).round().astype(np.uint8)).resize(size, _scaling(picture))
    laid = Image.alpha_composite(grey.convert("RGBA"), Image.fromarray((colours * 255).round().astype(np.uint8)))
    shown = [
        Image.fromarray(picture).resize(size, _scaling(picture)),
        plain.resize(size, Image.Resampling.NEAREST),
        laid,
    ]
    gap = 4
    card = Image.new("RGB", (3 * CARD_SIDE + 2 * gap, CARD_SIDE), "white")
    for index, part in enumerate(shown):
        card.paste(part.convert("RGB"), (index * (CARD_SIDE + gap), 0))
    return card


def _scaling(picture: Picture) -> Image.Resampling:
    """Show the pixels of small images as what they are."""
    return Image.Resampling.NEAREST if max(picture.shape[:2]) < CARD_SIDE / 2 else Image.Resampling.BILINEAR


def _levels(values: FloatArray, low: float, high: float) -> NDArray[np.uint8]:
    """Return where values lie between two ends, 0 to 255."""
    return np.clip(np.round((values - low) / max(high - low, 1e-300) * 255), 0, 255).astype(np.uint8)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
