"""torchvision's classification models: names, published weights, and what goes with these.

torchvision itself is imported late: that takes a second, in each process, and other networks do without it.
"""

from __future__ import annotations

import difflib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import torch

from pipeline.errors import NetworkError, listed
from pipeline.settings import ModelSettings

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

RANDOM = "random"


def factory(model: ModelSettings) -> Any:
    """Return the callable that builds the model, with weights freshly drawn."""
    from torchvision.models import get_model

    _check_name(model.name)
    return lambda **arguments: get_model(model.name, weights=None, **arguments)


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` where there are no weights of that name."""
    torchvision_weights(model)


def state_dict(model: ModelSettings) -> dict[str, torch.Tensor]:
    """Return the published weights, downloaded once."""
    weights = torchvision_weights(model)
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except OSError as error:  # urllib's errors are among them
        raise NetworkError(
            f"model.weights must be downloadable; {weights} is not here and could not be fetched ({error}). "
            "Download it by hand and set model.checkpoint, or use model.weights=random."
        ) from error


def identity(model: ModelSettings) -> dict[str, Any]:
    """Return what decides the published weights: their file's name carries its hash."""
    return {"url": torchvision_weights(model).url.rsplit("/", 1)[-1]}


def versions() -> dict[str, str]:
    """Return the versions that decide freshly drawn weights."""
    return {"torch": version("torch"), "torchvision": version("torchvision")}


def class_names(model: ModelSettings) -> tuple[str, ...]:
    """Return the names of the outputs."""
    return tuple(torchvision_weights(model).meta["categories"])


def preset(model: ModelSettings) -> Any:
    """Return the weights' own transform; it knows its ``mean``, ``std``, ``crop_size`` and ``resize_size``."""
    return torchvision_weights(model).transforms()


def torchvision_weights(model: ModelSettings) -> WeightsEnum:
    """Return the torchvision weights that `model.weights` names, ``DEFAULT`` where it names none of them."""
    from torchvision.models import get_model_weights

    _check_name(model.name)
    available = get_model_weights(model.name)
    if model.weights == RANDOM:
        return cast("WeightsEnum", available["DEFAULT"])
    if model.weights not in available.__members__:
        names = [weights.name for weights in available]
        raise NetworkError(
            f"model.weights must be {listed(names)} or random; got '{model.weights}' (model '{model.name}'). "
            "For a file of your own, set model.checkpoint."
        )
    return cast("WeightsEnum", available[model.weights])


def _check_name(name: str) -> None:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise NetworkError(
            f"model.name must be a torchvision classification model; got '{name}'. "
            f"Nearest: {listed(near or known)}. For a network of your own, set model.factory."
        )
