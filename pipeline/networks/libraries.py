"""The libraries that models can come from (`model.library`), and the functions that each of them provides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from pipeline.networks.crops import Box
from pipeline.settings import Library, ModelSettings

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn


class WeightsTransform(Protocol):
    """The transform that belongs to published weights: from a decoded image to the network's input.

    The image is resized and cropped, and each input channel becomes (pixel - mean) / std.
    """

    @property
    def mean(self) -> Sequence[float]:
        """Mean that is subtracted, one value for each input channel, for pixels in [0, 1]."""
        ...

    @property
    def std(self) -> Sequence[float]:
        """Standard deviation that the pixels are divided by, one value for each input channel."""
        ...

    @property
    def crop_size(self) -> Sequence[int]:
        """Size of the input in pixels: one value for a square, or height and width."""
        ...

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the network's input, (channels, height, width)."""
        ...


class ModelLibrary(Protocol):
    """The functions that a library of models provides; each library is a module of this package.

    All functions that take the model raise `NetworkError` if the library is not installed, or has no model or no
    weights of the requested name. With ``model.weights=random``, `class_names` and `preset` are those of the default
    weights.
    """

    def factory(self, model: ModelSettings) -> Callable[..., nn.Module]:
        """Return the function that builds the model with randomly initialised weights, from ``model.arguments``.

        If the weights are published ones, it builds the network that they imply, without loading or downloading them.
        """
        ...

    def check_weights(self, model: ModelSettings) -> None:
        """Raise `NetworkError` if there are no published weights of this name. Nothing is downloaded."""
        ...

    def is_published(self, model: ModelSettings) -> bool:
        """Return whether the weights are published ones, which `pretrained` loads."""
        ...

    def pretrained(self, model: ModelSettings) -> nn.Module:
        """Return the model with its published weights, as the library builds it. They are downloaded once."""
        ...

    def identity(self, model: ModelSettings) -> dict[str, Any]:
        """Return what determines the published weights, in plain JSON types, for the key of an artifact."""
        ...

    def architecture(self, model: ModelSettings) -> dict[str, Any]:
        """Return what determines the architecture besides ``model.arguments``, for the key of an artifact.

        Where the name does not determine the transform of the weights, this is included if it is used.
        """
        ...

    def versions(self) -> dict[str, str]:
        """Return the versions that determine randomly initialised weights, by package, for the key of an artifact."""
        ...

    def class_names(self, model: ModelSettings) -> tuple[str, ...] | None:
        """Return the names of the network's outputs, or None if they are not known."""
        ...

    def preset(self, model: ModelSettings) -> WeightsTransform:
        """Return the transform that belongs to the published weights."""
        ...

    def visible_box(self, model: ModelSettings, width: int, height: int) -> Box:
        """Return the part of an image of this size that remains after the transform of `preset`, in pixels."""
        ...


def library(model: ModelSettings) -> ModelLibrary:
    """Return the library that a model comes from."""
    return library_named(model.library)


def library_named(name: Library) -> ModelLibrary:
    """Return the library of this name; its module is imported when it is first needed."""
    match name:
        case "torchvision":
            from pipeline.networks import torchvision_models

            return torchvision_models
        case "timm":
            from pipeline.networks import timm_models

            return timm_models
        case "transformers":
            from pipeline.networks import transformers_models

            return transformers_models
        case _:
            assert_never(name)
