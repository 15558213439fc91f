"""The best channels of a network, with their activation maps over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from pipeline.arrays import FloatArray
from pipeline.artifacts import NetworkRanking
from pipeline.figures.gallery import decoded, draw_card
from pipeline.figures.labels import fitted, set_footer, set_title, signed
from pipeline.figures.network import question
from pipeline.figures.style import MAP_COLOURS, FigureMaker, hide_ticks, new_figure
from pipeline.network_answer import LABELS

CARD = 2.45  # inches, width of the three pictures of a channel
NAME_SIZE = 7.5  # points
N_COLUMNS = 3


@dataclass(frozen=True)
class PicturedChannel:
    """A channel of the network and its picture.

    Attributes
    ----------
    rank : int
        Rank in the network.
    layer : str
        Name of the layer.
    channel : int
        Index in the layer.
    score : float
        Score that the network is ranked by.
    interval : tuple of (float, float)
        95 % interval of the bias-corrected score; NaN if it was not computed.
    image_name : str
        Name of the most activating image.
    card : Image
        The most activating image, the activation map, and the map over the image, side by side.
    """

    rank: int
    layer: str
    channel: int
    score: float
    interval: tuple[float, float]
    image_name: str
    card: Image.Image

    @property
    def measured(self) -> str:
        """The score, and its interval if it was computed."""
        low, high = self.interval
        between = "" if np.isnan(low) else f" ({signed(low)} to {signed(high)})"
        return f"{signed(self.score)}{between}"


N_BEST = 12  # number of channels that are shown


def pictured(
    ranking: NetworkRanking, galleries: Mapping[str, Mapping[str, Any]], n_shown: int = N_BEST
) -> list[PicturedChannel]:
    """Return the best channels with their pictures.

    Parameters
    ----------
    ranking : NetworkRanking
        The channels.
    galleries : mapping
        Data of the report of each layer (`pipeline.figures.gallery.gallery`) by layer. Channels of layers without data
        are left out.
    n_shown : int
        Number of channels.
    """
    found, channels = [], ranking.channels
    has_intervals = ranking.summary.by == "bias_corrected"
    for row in channels[~channels.dead].head(n_shown).to_dict("records"):
        gallery = galleries.get(row["layer"])
        if gallery is None:
            continue
        places = {each["channel"]: place for place, each in enumerate(gallery["channels"])}
        place = places[row["channel"]]
        image = gallery["images"][gallery["channels"][place]["image"]]
        found.append(
            PicturedChannel(
                int(row["rank"]), str(row["layer"]), int(row["channel"]), float(row[ranking.summary.by]),
                (float(row["low"]), float(row["high"])) if has_intervals else (np.nan, np.nan), str(image["name"]),
                draw_card(np.asarray(decoded(image["src"]).convert("RGB")), stored_map(gallery["maps"], place)),
            )
        )  # fmt: skip
    return found


def stored_map(sheet: Mapping[str, Any], place: int) -> FloatArray:
    """Return a map from the picture with all maps of a layer, from 0 (its minimum) to 1 (its maximum).

    The picture shows 256 levels in the colours of `MAP_COLOURS`. Where neighbouring levels have the same colour after
    rounding, one of them is returned.
    """
    height, width = sheet["height"], sheet["width"]
    row, column = divmod(place, sheet["columns"])
    whole = np.asarray(decoded(sheet["src"]).convert("RGB"))
    shown = whole[row * height : (row + 1) * height, column * width : (column + 1) * width]
    colours = (colormaps[MAP_COLOURS](np.arange(256))[:, :3] * 255).round().astype(np.int64)
    numbers = shown.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    known = colours @ np.array([1 << 16, 1 << 8, 1])
    order = np.argsort(known)
    levels: FloatArray = order[np.searchsorted(known[order], numbers)] / 255.0
    return levels


def draw_best_channels(
    channels: Sequence[PicturedChannel], ranking: NetworkRanking, make: FigureMaker = new_figure
) -> Figure:
    """Draw the best channels of the network, the best first.

    Parameters
    ----------
    channels : sequence of PicturedChannel
        At least one channel.
    ranking : NetworkRanking
        The ranking that they belong to.
    make : callable, default=new_figure
        Makes the empty figure.
    """
    n_columns = min(N_COLUMNS, len(channels))
    n_rows = -(-len(channels) // n_columns)
    figure = make(n_columns * (CARD + 0.15) + 0.1, n_rows * (CARD / 3 + 0.42) + 0.75, gap=0.03)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, each in zip(panels, channels, strict=False):
        axes.imshow(np.asarray(each.card), interpolation="nearest")
        hide_ticks(axes)
        start, end = f"{each.rank}. ", f", channel {each.channel}"
        layer = fitted(each.layer, CARD - 0.9, NAME_SIZE, "middle")
        axes.set_title(f"{start}{layer}{end}\n{each.measured}", fontsize=NAME_SIZE, loc="left", linespacing=1.3)
    for axes in panels[len(channels) :]:
        axes.set_visible(False)
    set_title(figure, "Best channels of the network", question(ranking))
    interval = " and 95 % interval" if any(not np.isnan(each.interval[0]) for each in channels) else ""
    set_footer(
        figure,
        f"most activating image, activation map, and the map over the image; {LABELS[ranking.summary.by]}{interval}",
    )
    return figure
