"""The classification models of torchvision: names, published weights, their class names and transform.

It implements `pipeline.networks.libraries.ModelLibrary`. torchvision is imported inside the functions, because the
import takes a second in each process and other networks do not need it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks.checkpoints import RANDOM
from pipeline.settings import ModelSettings

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

    from pipeline.networks.libraries import WeightsTransform


def factory(model: ModelSettings) -> Callable[..., nn.Module]:
    """Return the function that builds the model with randomly initialised weights."""
    from torchvision.models import get_model

    _check_name(model.name)
    # Not functools.partial: it would let model.arguments replace `weights`, which here raises a TypeError.
    return lambda **arguments: get_model(model.name, weights=None, **arguments)


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` if there are no published weights of this name."""
    torchvision_weights(model)


def state_dict(model: ModelSettings) -> dict[str, torch.Tensor]:
    """Return the published weights; torchvision downloads them once."""
    weights = torchvision_weights(model)
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except OSError as error:  # the errors of urllib are OSErrors
        raise NetworkError(
            f"model.weights must be downloadable; got {weights}, which is not in the cache and could not be downloaded "
            f"({error}). Download it yourself and set model.checkpoint, or use model.weights=random."
        ) from error


def identity(model: ModelSettings) -> dict[str, Any]:
    """Return what determines the published weights: the name of their file, which contains a hash."""
    return {"url": torchvision_weights(model).url.rsplit("/", 1)[-1]}


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine randomly initialised weights."""
    return {"torch": version("torch"), "torchvision": version("torchvision")}


def class_names(model: ModelSettings) -> tuple[str, ...]:
    """Return the names of the outputs."""
    return tuple(torchvision_weights(model).meta["categories"])


def preset(model: ModelSettings) -> WeightsTransform:
    """Return the transform that belongs to the weights."""
    return cast("WeightsTransform", torchvision_weights(model).transforms())


def torchvision_weights(model: ModelSettings) -> WeightsEnum:
    """Return the weights that `model.weights` names; the default weights for ``random``.

    Raises
    ------
    NetworkError
        If torchvision has no such model, or no such weights for it.
    """
    from torchvision.models import get_model_weights

    _check_name(model.name)
    available = get_model_weights(model.name)
    if model.weights == RANDOM:
        return cast("WeightsEnum", available["DEFAULT"])
    if model.weights not in available.__members__:
        names = [weights.name for weights in available]
        raise NetworkError(
            f"model.weights must be {listed(names)} or random; got '{model.weights}' (model '{model.name}'). "
            "Set model.checkpoint to use a file of your own."
        )
    return cast("WeightsEnum", available[model.weights])


def _check_name(name: str) -> None:
    """Raise `NetworkError` if torchvision has no classification model of this name."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise NetworkError(
            f"model.name must be a torchvision classification model; got '{name}'. "
            f"Nearest: {listed(near or known)}. Set model.factory to use a network of your own."
        )
