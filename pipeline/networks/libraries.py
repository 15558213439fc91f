"""The libraries that models can come from (`model.library`), and what each of them must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from PIL import Image
from torch import nn

from pipeline.networks import timm_models, torchvision_models
from pipeline.settings import Library, ModelSettings


class WeightsTransform(Protocol):
    """The transform that belongs to published weights: from a decoded image to the network's input."""

    @property
    def mean(self) -> Any:
        """Mean of each input channel that is subtracted."""

    @property
    def std(self) -> Any:
        """Standard deviation of each input channel that is divided by."""

    @property
    def crop_size(self) -> Any:
        """Side of the central square that is cut out, in pixels, in a list."""

    @property
    def resize_size(self) -> Any:
        """Length that the image's shorter side is resized to before, in pixels, in a list."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the network's input, (channels, height, width)."""
        ...


class ModelLibrary(Protocol):
    """What a library of models provides; each is a module of this package.

    All functions raise `NetworkError` if there is no model or no weights of the name given.
    """

    def factory(self, model: ModelSettings) -> Callable[..., nn.Module]:
        """Return the callable that builds the model with randomly initialised weights."""

    def check_weights(self, model: ModelSettings) -> None:
        """Raise `NetworkError` if there are no weights of that name. Nothing is downloaded."""

    def state_dict(self, model: ModelSettings) -> dict[str, torch.Tensor]:
        """Return the published weights. They are downloaded once."""

    def identity(self, model: ModelSettings) -> dict[str, Any]:
        """Return what decides the published weights, for an artifact's key."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that decide randomly initialised weights."""

    def class_names(self, model: ModelSettings) -> tuple[str, ...] | None:
        """Return the names of the outputs, None if they are not known."""

    def preset(self, model: ModelSettings) -> WeightsTransform:
        """Return the transform that belongs to the weights."""


LIBRARIES: Mapping[Library, ModelLibrary] = {"torchvision": torchvision_models, "timm": timm_models}


def library(model: ModelSettings) -> ModelLibrary:
    """Return the library that a model comes from."""
    return LIBRARIES[model.library]
