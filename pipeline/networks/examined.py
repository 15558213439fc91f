"""The object that all stages after `download` work on: a network, one of its layers, and its class score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from pipeline.artifacts import ImageSet
from pipeline.networks.inputs import FileInputs, Preprocessing
from pipeline.networks.layout import LayerInfo, layout
from pipeline.networks.load import layout_of, load, resolve_device
from pipeline.networks.maps import ChannelAxis, Channels
from pipeline.networks.targets import Score, score_of
from pipeline.settings import ModelSettings, Settings, TargetSettings


@dataclass(frozen=True)
class ExaminedNetwork:
    """A network one of whose layers is examined.

    Build it with `NetworkRequest.open` from settings, or with `of_module` from a network in memory.

    Attributes
    ----------
    network : Module
        In evaluation mode, on `device`.
    layer : LayerInfo
        The layer whose channels are examined; it can be ranked.
    score : callable
        From the network's outputs to the class score of each image, (n_images,), float64.
    device : torch.device
        Where the network is.
    """

    network: nn.Module
    layer: LayerInfo
    score: Score
    device: torch.device

    @classmethod
    def of_module(
        cls, network: nn.Module, layer: str, score: Score, example: torch.Tensor, channels: ChannelAxis = "auto"
    ) -> Self:
        """Return the examined network for a network in memory.

        Parameters
        ----------
        network : Module
            In evaluation mode.
        layer : str
            Dotted path of the layer.
        score : callable
            From the network's outputs to a score for each image, (n_images,).
        example : tensor of shape (n_images, ...)
            Two inputs or more, on the network's device; see `pipeline.networks.layout.layout`.
        channels : {"auto", "first", "last"}
            Where the layer's channels are.

        Raises
        ------
        NetworkError
            If there is no such layer, or it cannot be ranked.
        """
        return cls(network, layout(network, example, channels).find(layer), score, example.device)

    @property
    def module(self) -> nn.Module:
        """The layer itself."""
        return self.network.get_submodule(self.layer.name)

    @property
    def channels(self) -> Channels:
        """Where the layer's channels are."""
        assert self.layer.channels is not None  # a layer that can be ranked has them
        return self.layer.channels

    @property
    def n_channels(self) -> int:
        """Number of the layer's channels."""
        return self.layer.maps[0]


@dataclass(frozen=True)
class NetworkRequest:
    """The settings that say which network is examined, at which layer, and what its class score is.

    Attributes
    ----------
    model : ModelSettings
        The network.
    layer : str
        Dotted path of the layer.
    target : TargetSettings
        What the class score is.
    target_class : int or None
        The class; None for a regression network.
    seed : int
        Of weights that are initialised at random.
    """

    model: ModelSettings
    layer: str
    target: TargetSettings
    target_class: int | None
    seed: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the request that resolved settings make."""
        return cls(settings.model, settings.layer, settings.target, settings.target_class, settings.seed)

    @property
    def score(self) -> Score:
        """From the network's outputs to the class score of each image."""
        return score_of(self.target, self.target_class)

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the network's input."""
        return Preprocessing(self.model)

    def open(self) -> ExaminedNetwork:
        """Build the network, load its weights and find the layer.

        Raises
        ------
        NetworkError
            If there is no such network, weights or layer, or the layer cannot be ranked.
        """
        layer = layout_of(self.model).find(self.layer)
        network = load(self.model, self.seed).requires_grad_(False)
        return ExaminedNetwork(network, layer, self.score, resolve_device(self.model))

    def inputs(self, images: ImageSet) -> FileInputs:
        """Return the images as inputs of the network."""
        return FileInputs(images.paths, self.preprocessing, resolve_device(self.model))
