"""A ranked layer: the artifacts that figures are drawn from, and the choice of channels and images."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import assert_never

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.artifacts import Activations, ChannelScores, Effects, ImageSet, Projections, Ranking
from pipeline.errors import InputError, listed
from pipeline.figures.activation_maps import ChannelMaps
from pipeline.figures.cam import SizedImage
from pipeline.figures.columns import score_text
from pipeline.figures.pictures import Picture, Pictures
from pipeline.settings import VisualizeSettings


@dataclass(frozen=True)
class RankedLayer:
    """The artifacts of all stages for one layer, and the choice of the channels and images that are drawn.

    Attributes
    ----------
    visualize : VisualizeSettings
        Which channels and images are drawn.
    views : Pictures
        The images as pictures.
    layer : str
        Dotted path of the layer.
    question : str
        Network, layer and class, as they appear in the titles of figures.
    score_label : str
        Label of the class score on the axes of figures.
    target_class : int or None
        Index of the class; None for a regression network.
    outputs : sequence of str or None
        Names of the outputs of the network; None if they are not known.
    images, activations, projections, scores, ranking, effects
        The artifacts.
    """

    visualize: VisualizeSettings
    views: Pictures
    layer: str
    question: str
    score_label: str
    target_class: int | None
    outputs: tuple[str, ...] | None
    images: ImageSet
    activations: Activations
    projections: Projections
    scores: ChannelScores
    ranking: Ranking
    effects: Effects

    def check(self) -> None:
        """Raise `InputError` if a channel or an image that the settings name does not exist."""
        check_choice(self.visualize, self.layer, len(self.means), [record.id for record in self.images.records])

    @cached_property
    def means(self) -> FloatArray:
        """Each channel's mean activation on every image, (n_channels, n_images)."""
        return self.activations.means()

    @cached_property
    def most_activating(self) -> list[int]:
        """For each channel, the index of the image with its largest mean activation."""
        return [int(index) for index in self.means.argmax(axis=1)]

    @cached_property
    def varying(self) -> list[int]:
        """The channels that are not dead, best first."""
        table = self.ranking.table
        return [int(channel) for channel in table[~table.dead].channel]

    @cached_property
    def channels(self) -> tuple[list[int], int]:
        """The channels that are drawn, and how many of them are drawn as the best ones."""
        if self.visualize.channels:
            return list(self.visualize.channels), 0
        top = self.varying[: self.visualize.n_top]
        rest = self.varying[len(top) :]
        return top + rest[max(0, len(rest) - self.visualize.n_bottom) :], len(top)

    @cached_property
    def maximized_channels(self) -> list[int]:
        """The channels for which an input is found by activation maximisation."""
        return list(self.visualize.channels) or self.varying[: self.visualize.n_maximized]

    @cached_property
    def chosen(self) -> list[int]:
        """The indices of the images that are drawn.

        These are the ones that the settings name, or else images spread evenly over the set, because the first few are
        often nearly the same.
        """
        return chosen_images(self.visualize, [record.id for record in self.images.records])

    @property
    def has_places(self) -> bool:
        """Whether the maps have height and width, so that their pixels correspond to places in an image."""
        return bool(min(self.activations.maps.shape[2:]) > 1)

    @property
    def has_own_images(self) -> bool:
        """Whether each channel is drawn on the images that activate it most, instead of all on the same ones."""
        return self.visualize.images == "driving" and not self.visualize.image_ids

    def pictures(self, indices: Sequence[int]) -> list[Picture]:
        """Return the network's input for some images as pictures."""
        return self.views.seen(indices)

    def names(self, indices: Sequence[int]) -> list[str]:
        """Return the ids of some images."""
        return [self.images.records[index].id for index in indices]

    def originals(self, indices: Sequence[int]) -> list[SizedImage]:
        """Return some images at their original sizes."""
        return self.views.originals(indices)

    def titles(self, channels: Sequence[int]) -> list[str]:
        """Return a title of three lines for each of some channels: index, rank and score."""
        rows = self.ranking.table.set_index("channel")
        ranks, scores = rows["rank"].to_dict(), rows["score"].to_dict()
        return [
            f"channel {channel}\nrank {ranks[channel]}\nscore {score_text(scores[channel])}" for channel in channels
        ]

    @cached_property
    def channel_maps(self) -> list[ChannelMaps]:
        """The maps of the channels that are drawn, with their colour scales."""
        channels, _ = self.channels
        found = []
        for channel, title in zip(channels, self.titles(channels), strict=True):
            indices = self.chosen
            if self.has_own_images:
                order = np.argsort(-self.means[channel], kind="stable")
                indices = [int(index) for index in order[: self.visualize.n_images]]
            maps = np.asarray(self.activations.maps[channel][indices], dtype=np.float32)
            low, high = float(maps.min()), float(maps.max())
            found.append(ChannelMaps(title, maps, self.pictures(indices), self.names(indices), low, high))
        match self.visualize.scale:
            case "channel":
                return found
            case "shared":
                low, high = min(each.low for each in found), max(each.high for each in found)
                return [replace(each, low=low, high=high) for each in found]
            case _:
                assert_never(self.visualize.scale)


def check_choice(visualize: VisualizeSettings, layer: str, n_channels: int, image_ids: Sequence[str]) -> None:
    """Check that the channels and images that the settings name exist.

    Parameters
    ----------
    visualize : VisualizeSettings
        Which channels and images are drawn.
    layer : str
        Dotted path of the layer.
    n_channels : int
        Number of its channels.
    image_ids : sequence of str
        The ids of all images.

    Raises
    ------
    InputError
        If one of them does not exist.
    """
    missing = [channel for channel in visualize.channels if channel >= n_channels]
    if missing:
        raise InputError(
            f"visualize.channels must be below {n_channels}; got {missing[0]} (layer '{layer}'). "
            "Name channels that the layer has."
        )
    known = set(image_ids)
    for name in visualize.image_ids:
        if name not in known:
            near = difflib.get_close_matches(name, image_ids, n=3, cutoff=0.4) or list(image_ids)[:3]
            raise InputError(
                f"visualize.image_ids must be among the {len(image_ids)} images of the set; got '{name}'. "
                f"Nearest: {listed(near)}."
            )


def chosen_images(visualize: VisualizeSettings, image_ids: Sequence[str]) -> list[int]:
    """Return the indices of the images that are drawn, see `RankedLayer.chosen`."""
    if visualize.image_ids:
        places = {name: index for index, name in enumerate(image_ids)}
        return [places[name] for name in visualize.image_ids]
    n_wanted = min(visualize.n_images, len(image_ids))
    return sorted({int(index) for index in np.linspace(0, len(image_ids) - 1, n_wanted).round()})
