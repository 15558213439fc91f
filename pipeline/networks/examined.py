"""The network that is examined: with one of its layers, the class score, and the device.

The modules that import torch are imported when a network is made, not for a request, which keys are computed from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pipeline.errors import NetworkError, listed
from pipeline.networks.known import layout_of
from pipeline.networks.targets import Score, score_of
from pipeline.settings import ModelSettings, Settings, TargetSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipeline.artifacts import ImageSet
    from pipeline.networks.arrangement import Arrangement, ChannelAxisSetting
    from pipeline.networks.inputs import FileInputs, Preprocessing
    from pipeline.networks.layout import LayerInfo


@dataclass(frozen=True)
class ExaminedNetwork:
    """A network, the layer whose channels are examined, and the class score.

    Use `NetworkRequest.open` to build it from settings, and `of_module` to build it from a network in memory.

    Attributes
    ----------
    network : Module
        In evaluation mode, on `device`.
    layer : LayerInfo
        The layer whose channels are examined. It can be ranked.
    score : callable
        From the network's outputs to the class score of each image, (n_images,).
    device : torch.device
        Device of the network and of its inputs.
    """

    network: nn.Module
    layer: LayerInfo
    score: Score
    device: torch.device

    @classmethod
    def of_module(
        cls, network: nn.Module, layer: str, score: Score, example: torch.Tensor, channels: ChannelAxisSetting = "auto"
    ) -> Self:
        """Return the examined network for a network in memory. The network is not changed.

        Parameters
        ----------
        network : Module
            In evaluation mode. It returns one row of scores for each image.
        layer : str
            Dotted path of the layer, e.g. ``layer4.1.conv2``. The heads of an attention layer must have been exposed,
            see `pipeline.networks.heads`.
        score : callable
            From the network's outputs to the class score of each image, (n_images,).
        example : tensor of shape (n_images, ...)
            Two inputs or more, on the network's device. Only their shape matters; see
            `pipeline.networks.layout.layout`.
        channels : {"auto", "first", "last"}
            Axis of the layer's channels: inferred, axis 1, or the last axis.

        Raises
        ------
        NetworkError
            If the network is in training mode, if there is no such layer, or if the layer cannot be ranked.
        """
        from pipeline.networks.layout_pass import layout

        training = [name or "the network" for name, module in network.named_modules() if module.training]
        if training:
            raise NetworkError(
                f"the network must be in evaluation mode; got modules in training mode ({listed(training, 3)}). "
                "Call network.eval()."
            )
        return cls(network, layout(network, example, channels).find(layer), score, example.device)

    @property
    def module(self) -> nn.Module:
        """The module of the layer."""
        return self.network.get_submodule(self.layer.name)

    @property
    def channels(self) -> Arrangement:
        """Axis of the layer's channels, or the arrangement of its tokens."""
        assert self.layer.channels is not None  # a layer that can be ranked has it
        return self.layer.channels

    @property
    def n_channels(self) -> int:
        """Number of channels of the layer."""
        return self.layer.maps[0]


@dataclass(frozen=True)
class NetworkRequest:
    """The settings that determine the examined network: model, layer, class score and seed.

    Attributes
    ----------
    model : ModelSettings
        The network and its input.
    layer : str
        Dotted path of the layer.
    target : TargetSettings
        The kind of class score.
    target_class : int or None
        Index of the class; None for a regression network.
    seed : int
        Seed of random weights.
    """

    model: ModelSettings
    layer: str
    target: TargetSettings
    target_class: int | None
    seed: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the request for resolved settings."""
        return cls(settings.model, settings.layer, settings.target, settings.target_class, settings.seed)

    @property
    def score(self) -> Score:
        """The function from the network's outputs to the class score of each image, (n_images,), float64."""
        return score_of(self.target, self.target_class)

    @property
    def preprocessing(self) -> Preprocessing:
        """The function from image files to the network's input, and back."""
        from pipeline.networks.inputs import Preprocessing

        return Preprocessing(self.model)

    def open(self) -> ExaminedNetwork:
        """Build the network, load its weights and find the layer.

        Raises
        ------
        NetworkError
            If there is no such network, weights or layer, or if the layer cannot be ranked.
        """
        from pipeline.networks.heads import AttentionHeads, expose_heads
        from pipeline.networks.load import load, resolve_device

        layer = layout_of(self.model).find(self.layer)
        network = load(self.model, self.seed).requires_grad_(False)
        if layer.type == AttentionHeads.__name__:
            expose_heads(network)
        return ExaminedNetwork(network, layer, self.score, resolve_device(self.model))

    def inputs(self, images: ImageSet) -> FileInputs:
        """Return the images as inputs of the network, on its device."""
        from pipeline.networks.inputs import FileInputs
        from pipeline.networks.load import resolve_device

        return FileInputs(images.paths, self.preprocessing, resolve_device(self.model))
