"""Build a network and load its weights: published weights, a checkpoint, the shipped file, or random weights.

With `model.randomized`, the last modules keep the random weights that they were initialised with.
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
from pipeline.errors import NetworkError, listed
from pipeline.networks.checkpoints import RANDOM, SHIPPED, check_fit, read_checkpoint, require_checkpoint
from pipeline.networks.forward import NetworkCodeError, evaluated, forward, reported_errors
from pipeline.networks.inputs import input_shape
from pipeline.networks.layout import NetworkLayout, layout
from pipeline.networks.libraries import library
from pipeline.networks.module_order import in_forward_order, owner
from pipeline.resources import shipped_weights
from pipeline.settings import ModelSettings

# Number of images in a forward pass that only shows shapes. With one image, an output without a batch axis could be
# mistaken for an output that has one.
N_PROBED = 2
_ResultT = TypeVar("_ResultT")


def load(model: ModelSettings, seed: int) -> nn.Module:
    """Return the network with its weights, in evaluation mode, on `model.device`.

    Raises
    ------
    NetworkError
        If there is no such model, if there are no such weights, if the weights do not fit the model, or if it has fewer
        modules with weights than `model.randomized`.
    """
    network = build(model, seed)
    state = _state_dict(model)
    if state is not None:
        check_fit(network, state, model.checkpoint or model.weights)
        randomized = set(randomized_modules(model))
        trained = {name: value for name, value in state.items() if owner(name) not in randomized}
        network.load_state_dict(trained, strict=False)  # check_fit has compared names and shapes
    network.to(resolve_device(model))
    return network


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` if `load` would, without downloading anything or allocating the network's memory."""
    if model.checkpoint is not None or model.weights == SHIPPED:
        state = _state_dict(model) or {}
        probe(model, lambda network, _: check_fit(network, state, model.checkpoint or model.weights))
    elif model.weights != RANDOM:
        library(model).check_weights(model)
    randomized_modules(model)
    resolve_device(model)


def resolve_device(model: ModelSettings) -> torch.device:
    """Return the device that the network runs on; ``auto`` selects CUDA if it is available.

    Raises
    ------
    NetworkError
        If ``cuda`` is requested and not available.
    """
    if model.device == "cuda" and not torch.cuda.is_available():
        raise NetworkError("model.device must be available; got cuda (torch finds no CUDA device). Use cpu or auto.")
    if model.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(model.device)


def build(model: ModelSettings, seed: int) -> nn.Module:
    """Return the network in evaluation mode with random weights.

    The global random generators are not changed.

    Parameters
    ----------
    model : ModelSettings
        The network.
    seed : int
        Seed of the weights.

    Raises
    ------
    NetworkError
        If there is no such model, or `model.factory` does not return a module.
    """
    with torch.random.fork_rng(devices=[]):
        # Seed the CPU's generator, which initialises weights; torch.manual_seed would also queue a call for every GPU.
        torch.default_generator.manual_seed(seed)
        with reported_errors(
            "model.factory must build the network"
            if model.factory
            else f"model.name={model.name} must build a network",
            "model.arguments: " + (listed([f"{name}={value}" for name, value in model.arguments.items()]) or "none"),
            "Correct model.arguments or the code.",
        ):
            network = _factory(model)(**model.arguments)
        if not isinstance(network, nn.Module):
            raise NetworkError(
                f"model.factory must return a torch.nn.Module; got {type(network).__name__} ({model.factory})."
            )
        _initialise_lazy(evaluated(network), model)
    return network


def probe(model: ModelSettings, function: Callable[[nn.Module, torch.Tensor], _ResultT]) -> _ResultT:
    """Return the result of a function of the network and `N_PROBED` empty images.

    No weights are loaded or downloaded. The network and the images are on torch's ``meta`` device, where tensors have
    shapes but no values, so that even VGG-16 takes no memory and hardly any time. A network of your own that needs
    values is built on the CPU instead.

    Parameters
    ----------
    model : ModelSettings
        The network.
    function : callable
        From the network and the images, (`N_PROBED`, channels, height, width), to any result. It may be called twice:
        again with a network on the CPU, if it raises ``NotImplementedError`` or ``RuntimeError`` on the meta device, or
        if the network's own code raises any exception there.
    """
    shape = (N_PROBED, *input_shape(model))
    try:
        with torch.device("meta"):
            return function(build(model, seed=0), torch.empty(shape))
    except (NotImplementedError, RuntimeError, NetworkCodeError):
        return function(build(model, seed=0), torch.zeros(shape))


def _initialise_lazy(network: nn.Module, model: ModelSettings) -> None:
    """Initialise the weights of lazy modules, whose shapes are known after a forward pass."""
    if any(nn.parameter.is_lazy(value) for value in (*network.parameters(), *network.buffers())):
        with torch.no_grad():  # not in inference mode, in which the weights could never be used for gradients
            forward(network, torch.zeros((N_PROBED, *input_shape(model))))


def layout_of(model: ModelSettings) -> NetworkLayout:
    """Return the layers of the network; no weights are loaded or downloaded."""
    return probe(model, partial(layout, channels=model.channels))


def weighted_modules(model: ModelSettings) -> list[str]:
    """Return the names of the modules with weights of their own, in the order of the forward pass."""
    return probe(model, in_forward_order)


def randomized_modules(model: ModelSettings) -> list[str]:
    """Return the names of the modules that keep their random weights: the last `model.randomized` ones.

    Raises
    ------
    NetworkError
        If the network has fewer modules with weights of their own.
    """
    if model.randomized == 0:
        return []
    modules = weighted_modules(model)
    if model.randomized > len(modules):
        raise NetworkError(
            f"model.randomized must be at most {len(modules)}, the number of modules with weights of their own; "
            f"got {model.randomized} (model '{model.name}'). Lower it."
        )
    return modules[-model.randomized :]


def _factory(model: ModelSettings) -> Any:
    """Return the function that builds the network with random weights."""
    if model.factory is None:
        return library(model).factory(model)
    module_name, _, attribute = model.factory.partition(":")
    if str(Path.cwd()) not in sys.path:  # `python -m` adds the working folder, the script `pcace` does not
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise NetworkError(
            f"model.factory must be importable as package.module:callable; got {model.factory} ({error}). "
            "Run from the folder that contains the package, or install it."
        ) from error
    return factory


def class_names(model: ModelSettings) -> tuple[str, ...] | None:
    """Return the names of the network's outputs, or None if neither the settings nor the weights define them.

    With random weights, these are the names that belong to the default weights.
    """
    if model.class_names is not None:
        return model.class_names
    if model.factory is not None or model.checkpoint is not None or "num_classes" in model.arguments:
        return None
    return library(model).class_names(model)


def identity(model: ModelSettings, seed: int) -> dict[str, Any]:
    """Return what determines the network's outputs, in plain JSON types, for the key of an artifact.

    It contains the architecture and the weights, and no paths.

    Parameters
    ----------
    model : ModelSettings
        The network.
    seed : int
        Seed of random weights.
    """
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
    if model.randomized:  # otherwise, the keys are those of versions that did not have this setting
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
