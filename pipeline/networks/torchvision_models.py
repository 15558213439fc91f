"""The classification models of torchvision: names, published weights, their class names and transform.

It implements `pipeline.networks.libraries.ModelLibrary`. torchvision is imported inside the functions, because the
import takes a second in each process and other networks do not need it.
"""

from __future__ import annotations

import difflib
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import torch
from torch import nn

from pipeline.digests import digest_file
from pipeline.errors import NetworkError, listed
from pipeline.networks.checkpoints import RANDOM, read_checkpoint
from pipeline.networks.crops import Box, central_box
from pipeline.settings import ModelSettings

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

    from pipeline.networks.libraries import WeightsTransform


def factory(model: ModelSettings) -> Callable[..., nn.Module]:
    """Return the function that builds the model, with randomly initialised weights."""
    from torchvision.models import get_model

    _check_name(model.name)
    weights = _published(model)

    # Not functools.partial: it would let model.arguments replace `weights`, which here raises a TypeError.
    def build(**arguments: Any) -> nn.Module:
        with nullcontext() if weights is None else _get_state_dict({}, is_loaded=False), warnings.catch_warnings():
            # GoogLeNet and Inception v3 announce another initialisation for a later version.
            warnings.filterwarnings("ignore", "The default weight initialization", FutureWarning)
            return cast("nn.Module", get_model(model.name, weights=weights, **arguments))

    return build


def is_published(model: ModelSettings) -> bool:
    """Return whether the weights are published ones, which torchvision loads itself."""
    return _published(model) is not None


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` if there are no published weights of this name."""
    torchvision_weights(model)


def pretrained(model: ModelSettings) -> nn.Module:
    """Return the model with its published weights, as torchvision builds it; the weights are downloaded once.

    Weights imply arguments (`transform_input` of GoogLeNet, the image size of a vision transformer), and the names in
    old files are converted, so that the network is torchvision's own.
    """
    from torchvision.models import get_model

    weights = _published(model)
    assert weights is not None
    given = None if model.checkpoint is None else read_checkpoint(Path(model.checkpoint).expanduser())
    try:
        with nullcontext() if given is None else _get_state_dict(given):
            return cast("nn.Module", get_model(model.name, weights=weights, progress=False, **model.arguments))
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:  # urllib's are OSErrors
        file = _cached(weights) if model.checkpoint is None else Path(model.checkpoint)
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".: ")
        if file.is_file():
            raise NetworkError(
                f"model.weights must be the published file of {weights}; got {file}, which cannot be loaded "
                f"({reason}). Delete it, and run again to download it."
            ) from error
        raise NetworkError(
            f"model.weights must be downloadable; got {weights}, which is not in the cache and could not be downloaded "
            f"({reason}). Save {weights.url} as {file}, or use model.weights=random."
        ) from error


def identity(model: ModelSettings) -> dict[str, Any]:
    """Return what determines the published weights: the name of their file, which contains the start of its SHA-256.

    A file in the cache that is not the published one is identified by its content instead.
    """
    file = _cached(torchvision_weights(model))
    found: dict[str, Any] = {"url": file.name}
    if file.is_file():
        digest = digest_file(file)
        if not digest.startswith(file.stem.rpartition("-")[2]):
            found["sha256"] = digest
    return found


def architecture(model: ModelSettings) -> dict[str, Any]:
    """Return what determines the architecture: its name."""
    return {"name": model.name}


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine randomly initialised weights."""
    return {"torch": version("torch"), "torchvision": version("torchvision")}


def class_names(model: ModelSettings) -> tuple[str, ...]:
    """Return the names of the outputs."""
    return tuple(torchvision_weights(model).meta["categories"])


def preset(model: ModelSettings) -> WeightsTransform:
    """Return the transform that belongs to the weights."""
    return cast("WeightsTransform", torchvision_weights(model).transforms())


def visible_box(model: ModelSettings, width: int, height: int) -> Box:
    """Return the part of an image that the network receives: left, top, right, bottom, in pixels."""
    transform: Any = torchvision_weights(model).transforms()
    return central_box(width, height, transform.crop_size[0], transform.resize_size[0])


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


def _cached(weights: WeightsEnum) -> Path:
    """Return the path at which torch keeps the file of the weights once it is downloaded."""
    folder: str = torch.hub.get_dir()
    return Path(folder) / "checkpoints" / str(weights.url).rpartition("/")[2]


@contextmanager
def _get_state_dict(state: Mapping[str, Any], *, is_loaded: bool = True) -> Iterator[None]:
    """In this context, torchvision takes published weights from `state`; with `is_loaded=False`, it loads nothing.

    Without loading, it builds the network that the weights imply although they have not been downloaded yet.
    """
    from torchvision.models import WeightsEnum

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(WeightsEnum, "get_state_dict", return_value=state))
        if not is_loaded:
            stack.enter_context(mock.patch.object(nn.Module, "load_state_dict", return_value=None))
        yield


def _published(model: ModelSettings) -> WeightsEnum | None:
    """Return the published weights that the model is built with; None for random weights and those of a user's file.

    A file with the name of one of torchvision's files (`model.checkpoint`) contains the published weights.
    """
    if model.checkpoint is None:
        return None if model.weights == RANDOM else torchvision_weights(model)
    from torchvision.models import get_model_weights

    _check_name(model.name)
    name = Path(model.checkpoint).name
    return next((weights for weights in get_model_weights(model.name) if _cached(weights).name == name), None)


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
