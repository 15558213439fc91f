"""Build a network and give it its weights: its library's, a checkpoint's, the shipped ones, or seeded random.

Some of the trained weights may be left out (`model.randomized`): those modules stay as they were built.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from pipeline.digests import digest_file
from pipeline.errors import NetworkError
from pipeline.networks.checkpoints import check_fit, read_checkpoint, require_checkpoint
from pipeline.networks.layout import NetworkLayout, layout
from pipeline.networks.libraries import WeightsTransform, library
from pipeline.networks.module_order import in_forward_order, owner
from pipeline.networks.torchvision_models import RANDOM
from pipeline.resources import shipped_weights
from pipeline.settings import ModelSettings

SHIPPED = "shipped"
N_PROBED = 2  # images in a pass of empty ones: with one, what has no batch axis could be taken for what has
_Found = TypeVar("_Found")


def load(model: ModelSettings, seed: int) -> nn.Module:
    """Return the network with its weights, in evaluation mode, on `model.device`.

    Raises
    ------
    NetworkError
        If there is no such model or weights, if the weights do not fit it, or if it has fewer modules than are to be
        drawn anew.
    """
    network = build(model, seed)
    state = _state_dict(model)
    if state is not None:
        check_fit(network, state, model.checkpoint or model.weights)
        drawn_anew = set(randomized_modules(model))
        trained = {name: value for name, value in state.items() if owner(name) not in drawn_anew}
        network.load_state_dict(trained, strict=False)  # strictness is _check_fit's
    return network.eval().to(resolve_device(model))


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` where `load` would, short of downloading anything or filling a network's memory."""
    if model.checkpoint is not None or model.weights == SHIPPED:
        state = _state_dict(model)
        with torch.device("meta"):
            network = build(model, seed=0)
        check_fit(network, state or {}, model.checkpoint or model.weights)
    elif model.weights != RANDOM:
        library(model).check_weights(model)
    randomized_modules(model)
    resolve_device(model)


def resolve_device(model: ModelSettings) -> torch.device:
    """Return the device to run on; ``auto`` takes CUDA where there is one."""
    if model.device == "cuda" and not torch.cuda.is_available():
        raise NetworkError("model.device must be available; got cuda, and torch sees no CUDA device. Use cpu or auto.")
    if model.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(model.device)


def build(model: ModelSettings, seed: int) -> nn.Module:
    """Return the architecture in evaluation mode, its weights drawn with `seed`; the global generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator, where weights are drawn; torch.manual_seed would queue calls for every accelerator.
        torch.default_generator.manual_seed(seed)
        network = _factory(model)(**model.arguments)
    if not isinstance(network, nn.Module):
        raise NetworkError(
            f"model.factory must return a torch.nn.Module; got {type(network).__name__} ({model.factory})."
        )
    return network.eval()


def probe(model: ModelSettings, look: Callable[[nn.Module, torch.Tensor], _Found]) -> _Found:
    """Return what `look` makes of the network and `N_PROBED` empty images; no weights are loaded or downloaded.

    Both are on torch's ``meta`` device, where tensors have shapes but no values, so that even VGG-16 takes no memory
    and next to no time. A network of your own that needs values is built on the CPU instead.
    """
    shape = (N_PROBED, *model.input_size)
    try:
        with torch.device("meta"):
            return look(build(model, seed=0), torch.empty(shape))
    except (NotImplementedError, RuntimeError):
        return look(build(model, seed=0), torch.zeros(shape))


def layout_of(model: ModelSettings) -> NetworkLayout:
    """Return the layers of a network that the settings describe; no weights are loaded or downloaded."""
    return probe(model, partial(layout, channels=model.channels))


def weighted_modules(model: ModelSettings) -> list[str]:
    """Return the modules with weights of their own, in the order of the forward pass."""
    return probe(model, in_forward_order)


def randomized_modules(model: ModelSettings) -> list[str]:
    """Return the modules that stay as they were built, their weights drawn with the seed: the last ones.

    Raises
    ------
    NetworkError
        If there are not so many.
    """
    if model.randomized == 0:
        return []
    modules = weighted_modules(model)
    if model.randomized > len(modules):
        raise NetworkError(
            f"model.randomized must be at most {len(modules)}, the modules with weights of their own; "
            f"got {model.randomized} (model '{model.name}'). Lower it."
        )
    return modules[-model.randomized :]


def _factory(model: ModelSettings) -> Any:
    if model.factory is None:
        return library(model).factory(model)
    module_name, _, attribute = model.factory.partition(":")
    if str(Path.cwd()) not in sys.path:  # the `pcace` script does not put the working folder there; python -m does
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise NetworkError(
            f"model.factory must be importable as package.module:callable; got {model.factory} ({error}). "
            "Run from the folder that holds the package, or install it."
        ) from error
    return factory


def class_names(model: ModelSettings) -> tuple[str, ...] | None:
    """Return the names of the network's outputs, where the settings or the weights know them.

    With random weights these are the names that the model's published weights have: as good as any.
    """
    if model.class_names is not None:
        return model.class_names
    if model.factory is not None or model.checkpoint is not None or "num_classes" in model.arguments:
        return None
    return library(model).class_names(model)


def preset(model: ModelSettings) -> WeightsTransform:
    """Return the transform that belongs to the published weights."""
    return library(model).preset(model)


def identity(model: ModelSettings, seed: int) -> dict[str, Any]:
    """Return what decides the network's outputs, for an artifact's key: architecture, weights, no paths."""
    architecture: dict[str, Any] = {"library": model.library, "name": model.name, "arguments": model.arguments}
    if model.factory is not None:
        factory = _factory(model)
        source = inspect.getsourcefile(inspect.unwrap(factory))
        architecture = {
            "factory": model.factory,
            "source": digest_file(Path(source)) if source else None,
            "arguments": model.arguments,
        }
    path = _checkpoint_path(model)
    if path is not None:
        weights: dict[str, Any] = {"sha256": digest_file(require_checkpoint(path))}
    elif model.weights == RANDOM:
        weights = {"random": seed, **library(model).versions()}
    else:
        weights = library(model).identity(model)
    if model.randomized:  # only then: what was made of trained weights keeps its key
        weights = {**weights, "randomized": model.randomized, "random": seed, **library(model).versions()}
    return {"architecture": architecture, "weights": weights}


def _checkpoint_path(model: ModelSettings) -> Path | None:
    if model.checkpoint is not None:
        return Path(model.checkpoint).expanduser()
    return shipped_weights(model.name) if model.weights == SHIPPED else None


def _state_dict(model: ModelSettings) -> dict[str, torch.Tensor] | None:
    path = _checkpoint_path(model)
    if path is not None:
        return read_checkpoint(path)
    if model.weights == RANDOM:
        return None
    return library(model).state_dict(model)
