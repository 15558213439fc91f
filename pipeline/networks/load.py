"""Build a network and load its weights: published weights, a checkpoint, the shipped file, or random weights.

With `model.randomized`, the last modules keep the random weights that they were initialised with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from pipeline.errors import NetworkError, PipelineError, listed
from pipeline.networks.checkpoints import load_weights, read_checkpoint
from pipeline.networks.declared import input_shape
from pipeline.networks.factories import call_factory, check_arguments, seeded
from pipeline.networks.forward import NetworkCodeError, described, evaluated, forward
from pipeline.networks.heads import exposed_heads
from pipeline.networks.layout import NetworkLayout
from pipeline.networks.layout_pass import layout
from pipeline.networks.libraries import library
from pipeline.networks.module_order import in_forward_order, owner
from pipeline.networks.remembered import remember
from pipeline.networks.weight_files import RANDOM, SHIPPED, checkpoint_path
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

    def loaded() -> nn.Module:
        network = load_on_cpu(model, seed)
        network.to(resolve_device(model))
        return network

    return remember("network", model, seed, loaded)


def load_on_cpu(model: ModelSettings, seed: int) -> nn.Module:
    """Return the network with its weights, in evaluation mode, on the CPU; see `load`."""
    randomized = set(randomized_modules(model))
    if _is_published(model):
        with _library_errors(model):
            network = evaluated(library(model).pretrained(model))
        if randomized:
            _restore(network, build(replace(model, weights=RANDOM, checkpoint=None), seed).state_dict(), randomized)
        return network
    network = build(model, seed)
    path = checkpoint_path(model)
    if path is not None:
        initial = {name: copy.deepcopy(value) for name, value in network.state_dict().items() if randomized}
        load_weights(network, read_checkpoint(path), model.checkpoint or model.weights)
        _restore(network, initial, randomized)
    return network


def _restore(network: nn.Module, values: Mapping[str, Any], modules: Set[str]) -> None:
    """Give the parameters and buffers of some modules the values that they have in another state dict."""
    for name, value in network.state_dict().items():
        if owner(name) in modules and isinstance(value, torch.Tensor):
            if name not in values or values[name].shape != value.shape:
                found = tuple(values[name].shape) if name in values else "none"
                raise NetworkError(
                    "model.randomized must concern weights that the untrained network has in the same shape; got "
                    f"{name} of shape {tuple(value.shape)} (untrained: {found}). Lower it, or give the arguments that "
                    "the weights imply, such as model.arguments.image_size."
                )
            value.copy_(values[name])  # a state dict shares its memory with the network


def check_weights(model: ModelSettings) -> None:
    """Raise `NetworkError` if `load` would, without downloading anything."""
    if model.factory is not None:
        load_on_cpu(model, seed=0)
    elif _is_published(model):
        library(model).check_weights(model)
        probe(model, lambda *_: None)
    elif (path := checkpoint_path(model)) is not None:
        state = read_checkpoint(path)
        with torch.device("meta"):
            load_weights(build(model, seed=0), state, model.checkpoint or model.weights)
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

    def finish(network: object) -> None:
        if not isinstance(network, nn.Module):
            raise NetworkError(
                f"model.factory must return a torch.nn.Module; got {type(network).__name__} ({model.factory})."
            )
        _initialise_lazy(evaluated(network), model)

    if model.factory is not None:
        return call_factory(model, seed, finish)
    with seeded(seed):
        with _library_errors(model):
            network = library(model).factory(model)(**model.arguments)
        finish(network)
    return network


def probe(model: ModelSettings, function: Callable[[nn.Module, torch.Tensor], _ResultT]) -> _ResultT:
    """Return the result of a function of the network and `N_PROBED` empty images.

    No weights are loaded or downloaded. The network and the images are on torch's ``meta`` device, where tensors have
    shapes but no values, so that even VGG-16 takes no memory and hardly any time. A network of your own is built on the
    CPU, because its code may need values, and then moved there; if its forward pass needs values as well, it stays.

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

    def run(network: nn.Module, images: torch.Tensor) -> _ResultT:
        with exposed_heads(network):
            return function(network, images)

    built = None if model.factory is None else build(model, seed=0)
    try:
        with torch.device("meta"):
            return run(build(model, seed=0) if built is None else built.to("meta"), torch.empty(shape))
    except (NotImplementedError, RuntimeError, NetworkCodeError):
        return run(build(model, seed=0), torch.zeros(shape))


def _initialise_lazy(network: nn.Module, model: ModelSettings) -> None:
    """Initialise the weights of lazy modules, whose shapes are known after a forward pass."""
    if any(nn.parameter.is_lazy(value) for value in (*network.parameters(), *network.buffers())):
        with torch.no_grad():  # not in inference mode, in which the weights could never be used for gradients
            forward(network, torch.zeros((N_PROBED, *input_shape(model))))


def probed_layout(model: ModelSettings) -> NetworkLayout:
    """Return the layers of the network, which is built; no weights are loaded or downloaded."""
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


@contextmanager
def _library_errors(model: ModelSettings) -> Iterator[None]:
    """In this context, errors of a library that builds a model with `model.arguments` become a `NetworkError`."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if not model.arguments:
            raise
        with torch.device("meta"):
            plain = library(model).factory(replace(model, arguments={}))()
        check_arguments(type(plain), model.arguments, f"{model.library}'s {model.name}", all_required=False)
        raise NetworkError(
            f"model.arguments must suit the network; got {listed([f'{k}={v}' for k, v in model.arguments.items()])} "
            f"({model.library}'s {model.name}, {described(error)}). Correct or remove them."
        ) from error


def _is_published(model: ModelSettings) -> bool:
    return model.factory is None and model.weights != SHIPPED and library(model).is_published(model)
