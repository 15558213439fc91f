"""Data of the report for every channel: a small activation map, the most activating image, and ACE's transforms.

For hundreds of channels, the data takes a few megabytes: all maps are in one picture, images are thumbnails, and the
points of the transforms are stored as bytes, that is in 256 steps along each axis, which is finer than they are drawn.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from pipeline.arrays import FloatArray
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.figures.style import MAP_COLOURS, OVERLAY_COLOURS, as_grey, opacity
from pipeline.networks.maximization import Maximized

MAP_SIDE = 28  # pixels; larger maps are reduced by averaging
IMAGE_SIDE = 96  # pixels; larger images are reduced
EXACT_SIDE = 48  # pixels; images up to this size are stored without loss
CARD_SIDE = 112
MAX_COMPONENTS = 7
MAX_POINTS = 200
MAX_CHANNELS = 512  # number of best channels whose transforms are stored
# In the reports of the layers of a network, of which there are dozens:
COMPACT_SIDE = 56  # pixels; larger images are reduced
COMPACT_QUALITY = 40  # of images as WebP
COMPACT_CHANNELS = 12  # number of best channels whose transforms are stored
COMPACT_MAP_SIDE = 16  # pixels; larger maps are reduced by averaging

PICTURE_OPTIONS: Mapping[str, dict[str, Any]] = {
    "PNG": {"optimize": True},
    "JPEG": {"quality": 85},
    "WEBP": {"quality": COMPACT_QUALITY, "method": 6},
}

Picture = NDArray[np.uint8]


def gallery(ranked: RankedLayer, found: Maximized | None) -> dict[str, Any]:
    """Return the data of the report in JSON types: the channels by rank, their images, maps and transforms."""
    channels = [int(channel) for channel in ranked.ranking.table.channel]
    images = sorted({ranked.most_activating[channel] for channel in channels})
    stored = ranked.activations.maps
    maps = [np.asarray(stored[channel, ranked.most_activating[channel]], dtype=np.float32) for channel in channels]
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
                found.channels, found.pictures, found.reached, found.best_real, strict=True
            )
        ],
    }  # fmt: skip


def compact(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of a report with smaller images, and with the transforms of fewer channels.

    Parameters
    ----------
    data : mapping
        Result of `gallery`.
    """
    transforms = data["transforms"]
    if transforms is not None and len(transforms["channels"]) > COMPACT_CHANNELS:
        n_bytes = COMPACT_CHANNELS * (transforms["components"] + 1) * transforms["points"] * 2
        transforms = {
            **transforms,
            "channels": transforms["channels"][:COMPACT_CHANNELS],
            "ranges": transforms["ranges"][:COMPACT_CHANNELS],
            "bytes": base64.b64encode(base64.b64decode(transforms["bytes"])[:n_bytes]).decode(),
        }
    images = [{**image, "src": _smaller(image["src"])} for image in data["images"]]
    return {**data, "images": images, "maps": _smaller_sheet(data["maps"]), "transforms": transforms}


def decoded(uri: str) -> Image.Image:
    """Return the picture in a data URI."""
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def _smaller(uri: str) -> str:
    """Return an image of at most `COMPACT_SIDE` pixels per side as WebP; images that are smaller are not changed."""
    image = decoded(uri).convert("RGB")
    if max(image.size) <= EXACT_SIDE:
        return uri
    image.thumbnail((COMPACT_SIDE, COMPACT_SIDE))
    return data_uri(image, "WEBP")


def _smaller_sheet(sheet: Mapping[str, Any]) -> dict[str, Any]:
    """Return the picture with all maps, reduced so that each has at most `COMPACT_MAP_SIDE` pixels per side."""
    factor = max(sheet["width"], sheet["height"]) / COMPACT_MAP_SIDE
    if factor <= 1:
        return dict(sheet)
    width, height = (max(1, round(sheet[side] / factor)) for side in ("width", "height"))
    size = (sheet["columns"] * width, -(-sheet["cells"] // sheet["columns"]) * height)
    reduced = decoded(sheet["src"]).convert("RGB").resize(size, Image.Resampling.BOX)
    return {**sheet, "src": data_uri(reduced.quantize(64)), "width": width, "height": height}


def _transforms(ranked: RankedLayer, channels: Sequence[int]) -> dict[str, Any] | None:
    fit = ranked.scores.fit
    if fit is None:
        return None
    return transform_points(ranked.projections.values, fit.phi, ranked.activations.class_score, fit.theta, channels)


def _pictures(ranked: RankedLayer, indices: Sequence[int]) -> Iterator[Picture]:
    """Yield images as the network sees them, loading only a few at a time to limit the memory."""
    for start in range(0, len(indices), 32):
        yield from ranked.pictures(indices[start : start + 32])


def small_map(activation: FloatArray) -> FloatArray:
    """Return a map reduced to at most `MAP_SIDE` pixels per side, each the mean of the pixels that it replaces."""
    height, width = activation.shape
    factor = max(1.0, max(height, width) / MAP_SIDE)
    if factor == 1.0:
        return activation
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    reduced = Image.fromarray(np.asarray(activation, dtype=np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(reduced)


def map_sheet(maps: Sequence[FloatArray]) -> dict[str, Any]:
    """Return one picture with all maps, row by row, each with a colour scale from its minimum to its maximum."""
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
    """Return an image, reduced to at most `IMAGE_SIDE` pixels per side, as a data URI. Small images are not changed."""
    image = Image.fromarray(picture)
    if max(image.size) <= EXACT_SIDE:
        return data_uri(image)
    image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    return data_uri(image, "JPEG")


def data_uri(image: Image.Image, kind: Literal["PNG", "JPEG", "WEBP"] = "PNG") -> str:
    """Return a picture as a data URI, ``data:image/png;base64,...``."""
    buffer = BytesIO()
    image.save(buffer, kind, **PICTURE_OPTIONS[kind])
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def transform_points(
    projections: FloatArray, phi: FloatArray, class_score: FloatArray, theta: FloatArray, channels: Sequence[int]
) -> dict[str, Any]:
    """Return ACE's transforms of the channels as bytes: (x, y) points for each component and for the class score.

    Parameters
    ----------
    projections : ndarray of shape (n_channels, n_images, n_projections)
        Components, of which the first n_components are used.
    phi : ndarray of shape (n_channels, n_images, n_components)
        Transforms of these. The first `MAX_COMPONENTS` are stored.
    class_score : ndarray of shape (n_images,)
        Class scores.
    theta : ndarray of shape (n_channels, n_images)
        Transform of the class score for each channel.
    channels : sequence of int
        Indices of the channels, in this order. The first `MAX_CHANNELS` are stored.

    Returns
    -------
    dict
        ``channels``; numbers of ``components`` that are stored and that are ``left_out``; number of ``points`` per
        component; ``ranges`` of x and y, (min x, max x, min y, max y), by channel and component, the last one that of
        the class score; and ``bytes``, the coordinates within these ranges in [0, 255], base64.
    """
    n_images = len(class_score)
    kept = np.unique(np.linspace(0, n_images - 1, min(n_images, MAX_POINTS)).round().astype(int))
    n_components = min(phi.shape[2], MAX_COMPONENTS)
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
        "left_out": phi.shape[2] - n_components,
        "points": len(kept),
        "ranges": ranges,
        "bytes": base64.b64encode(points.tobytes()).decode(),
    }


def draw_card(picture: Picture, activation: FloatArray) -> Image.Image:
    """Return a channel as three pictures in a row: its most activating image, the map, and the map over the image."""
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
    """Return the method that enlarges an image: the pixels of small images stay visible."""
    return Image.Resampling.NEAREST if max(picture.shape[:2]) < CARD_SIDE / 2 else Image.Resampling.BILINEAR


def _levels(values: FloatArray, low: float, high: float) -> NDArray[np.uint8]:
    """Return the positions of values between two ends, in [0, 255]."""
    return np.clip(np.round((values - low) / max(high - low, 1e-300) * 255), 0, 255).astype(np.uint8)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
