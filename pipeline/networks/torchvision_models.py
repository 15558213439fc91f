"""The classification models of torchvision: names, published weights, their class names and transform.

It implements `pipeline.networks.libraries.ModelLibrary`. torch and torchvision are imported inside the functions,
because each takes a second in each process: the key of a model's results is known without them.
"""

from __future__ import annotations

import difflib
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from pipeline.digests import digest_file
from pipeline.errors import NetworkError, listed
from pipeline.kept_values import kept_value
from pipeline.networks.crops import Box, central_box
from pipeline.networks.weight_files import RANDOM
from pipeline.settings import ModelSettings

if TYPE_CHECKING:
    from torch import nn
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
    if model.checkpoint is None:
        return model.weights != RANDOM and _address(model) is not None
    name = Path(model.checkpoint).name
    return any(_file_name(address) == name for address in _addresses(model.name).values())


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` if there are no published weights of this name."""
    torchvision_weights(model)


def pretrained(model: ModelSettings) -> nn.Module:
    """Return the model with its published weights, as torchvision builds it; the weights are downloaded once.

    Weights imply arguments (`transform_input` of GoogLeNet, the image size of a vision transformer), and the names in
    old files are converted, so that the network is torchvision's own.
    """
    from torchvision.models import get_model

    from pipeline.networks.checkpoints import read_checkpoint

    weights = _published(model)
    assert weights is not None
    given = None if model.checkpoint is None else read_checkpoint(Path(model.checkpoint).expanduser())
    try:
        with nullcontext() if given is None else _get_state_dict(given):
            return cast("nn.Module", get_model(model.name, weights=weights, progress=False, **model.arguments))
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:  # urllib's are OSErrors
        file = _cached(weights.url) if model.checkpoint is None else Path(model.checkpoint)
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
    file = _cached(_address(model))
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


def _addresses(name: str) -> Mapping[str, str]:
    """Return the address of each file of published weights, by the name of the weights, including ``DEFAULT``.

    They are kept, because torchvision takes two seconds to import.
    """

    def found() -> dict[str, str]:
        from torchvision.models import get_model_weights

        _check_name(name)
        return {member: weights.url for member, weights in get_model_weights(name).__members__.items()}

    return cast("dict[str, str]", kept_value("torchvision's weights", name, ("torchvision",), found))


def _address(model: ModelSettings) -> str:
    """Return the address of the file of the weights that `model.weights` names; see `torchvision_weights`."""
    address = _addresses(model.name).get("DEFAULT" if model.weights == RANDOM else model.weights)
    return str(torchvision_weights(model).url) if address is None else address


def _file_name(address: str) -> str:
    return address.rpartition("/")[2]


def _cached(address: str) -> Path:
    """Return the path at which torch keeps the file of the weights once it is downloaded."""
    return _hub_folder() / "checkpoints" / _file_name(address)


def _hub_folder() -> Path:
    """Return what `torch.hub.get_dir` does, without importing torch."""
    if (torch := sys.modules.get("torch")) is not None:
        return Path(torch.hub.get_dir())
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.path.expanduser(os.environ.get("TORCH_HOME", os.path.join(caches, "torch")))  # also without a home
    return Path(home) / "hub"


@contextmanager
def _get_state_dict(state: Mapping[str, Any], *, is_loaded: bool = True) -> Iterator[None]:
    """In this context, torchvision takes published weights from `state`; with `is_loaded=False`, it loads nothing.

    Without loading, it builds the network that the weights imply although they have not been downloaded yet.
    """
    from torch import nn
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
    return next((weights for weights in get_model_weights(model.name) if _file_name(weights.url) == name), None)


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
