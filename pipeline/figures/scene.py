"""All that is drawn from, in one place, and which channels and images of it are drawn."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.artifacts import Activations, ChannelScores, FloatArray, ImageSet, Projections, Ranking
from pipeline.errors import InputError, listed
from pipeline.figures.activation_maps import ChannelMaps
from pipeline.figures.cam import SeenImage
from pipeline.figures.columns import score_text
from pipeline.networks.inputs import load_batch, open_image, seen_box, to_input, to_pictures
from pipeline.settings import ModelSettings, VisualizeSettings


@dataclass(frozen=True)
class Scene:
    """A ranked layer: settings, the artifacts of all stages, and the question as a figure's title says it."""

    visualize: VisualizeSettings
    model: ModelSettings
    layer: str
    question: str
    images: ImageSet
    activations: Activations
    projections: Projections
    scores: ChannelScores
    ranking: Ranking

    @cached_property
    def means(self) -> FloatArray:
        """Each channel's mean activation on every image, (n_channels, n_images)."""
        return self.activations.means()

    @cached_property
    def driving(self) -> list[int]:
        """The image that drives each channel most, by channel."""
        return [int(index) for index in self.means.argmax(axis=1)]

    @cached_property
    def living(self) -> list[int]:
        """The channels that vary, best first."""
        table = self.ranking.table
        return [int(channel) for channel in table[~table.dead].channel]

    @cached_property
    def channels(self) -> tuple[list[int], int]:
        """The channels drawn, and how many of them are there as the best.

        Raises
        ------
        InputError
            If a channel asked for is not there.
        """
        n_channels = len(self.means)
        missing = [channel for channel in self.visualize.channels if channel >= n_channels]
        if missing:
            raise InputError(
                f"visualize.channels must be below {n_channels}; got {missing[0]} (layer '{self.layer}'). "
                "Name channels that the layer has."
            )
        if self.visualize.channels:
            return list(self.visualize.channels), 0
        top = self.living[: self.visualize.n_top]
        rest = self.living[len(top) :]
        return top + rest[max(0, len(rest) - self.visualize.n_bottom) :], len(top)

    @cached_property
    def sought(self) -> list[int]:
        """The channels whose input is maximised."""
        return list(self.visualize.channels) or self.living[: self.visualize.n_maximized]

    @cached_property
    def chosen(self) -> list[int]:
        """The indices of the images drawn: named ones, or spread evenly, as the first few are often near-duplicates.

        Raises
        ------
        InputError
            If an image asked for is not in the set.
        """
        ids = {record.id: index for index, record in enumerate(self.images.records)}
        for name in self.visualize.image_ids:
            if name not in ids:
                near = difflib.get_close_matches(name, ids, n=3, cutoff=0.4) or list(ids)[:3]
                raise InputError(
                    f"visualize.image_ids must be among the {len(ids)} images of the set; got '{name}'. "
                    f"Nearest: {listed(near)}."
                )
        if self.visualize.image_ids:
            return [ids[name] for name in self.visualize.image_ids]
        n_wanted = min(self.visualize.n_images, len(ids))
        return sorted({int(index) for index in np.linspace(0, len(ids) - 1, n_wanted).round()})

    @property
    def has_places(self) -> bool:
        """Whether maps have height and width: the pixels of others stand for no place in an image."""
        return bool(min(self.activations.maps.shape[2:]) > 1)

    @property
    def has_own_images(self) -> bool:
        """Whether each channel is drawn on the images that drive it most, not all on the same ones."""
        return self.visualize.images == "driving" and not self.visualize.image_ids

    def inputs(self, indices: Sequence[int]) -> torch.Tensor:
        """Return some images as the network's input."""
        paths = [self.images.paths[index] for index in indices]
        return load_batch(paths, self.model, to_input(self.model))

    def pictures(self, indices: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Return what the network saw of some images."""
        return to_pictures(self.inputs(indices), self.model)

    def names(self, indices: Sequence[int]) -> list[str]:
        """Return the ids of some images."""
        return [self.images.records[index].id for index in indices]

    def as_they_are(self, indices: Sequence[int]) -> list[SeenImage]:
        """Return some images at their own sizes."""
        found = []
        for index, name in zip(indices, self.names(indices), strict=True):
            picture = np.asarray(open_image(self.images.paths[index], self.model.input_size[0]))
            height, width = picture.shape[:2]
            found.append(SeenImage(picture, name, seen_box(self.model, width, height)))
        return found

    def titles(self, channels: Sequence[int]) -> list[str]:
        """Return channel, rank and score of some channels, a line each."""
        rows = self.ranking.table.set_index("channel")
        ranks, scores = rows["rank"].to_dict(), rows["score"].to_dict()
        return [
            f"channel {channel}\nrank {ranks[channel]}\nscore {score_text(scores[channel])}" for channel in channels
        ]

    @cached_property
    def channel_maps(self) -> list[ChannelMaps]:
        """The maps of the channels drawn on the images drawn, with their colour scales."""
        channels, _ = self.channels
        found = []
        for channel, title in zip(channels, self.titles(channels), strict=True):
            indices = self.chosen
            if self.has_own_images:
                order = np.argsort(-self.means[channel], kind="stable")
                indices = [int(index) for index in order[: self.visualize.n_images]]
            maps = np.asarray(self.activations.maps[channel])[indices]
            low, high = float(maps.min()), float(maps.max())
            found.append(ChannelMaps(title, maps, self.pictures(indices), self.names(indices), low, high))
        if self.visualize.scale == "channel":
            return found
        low, high = min(each.low for each in found), max(each.high for each in found)
        return [ChannelMaps(each.title, each.maps, each.pictures, each.names, low, high) for each in found]
