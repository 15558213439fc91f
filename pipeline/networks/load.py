"""Build a network and give it its weights: its library's, a checkpoint's, the shipped ones, or seeded random.

Some of the trained weights may be left out (`model.randomized`): those modules stay as they were built.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.digests import digest_file
from pipeline.errors import NetworkError, listed
from pipeline.networks import timm_models, torchvision_models
from pipeline.networks.randomize import in_forward_order, owner
from pipeline.networks.torchvision_models import RANDOM
from pipeline.resources import shipped_weights
from pipeline.settings import ModelSettings

SHIPPED = "shipped"
NESTED_UNDER = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights in a checkpoint
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
        _check_fit(network, state, model.checkpoint or model.weights)
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
        _check_fit(network, state or {}, model.checkpoint or model.weights)
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


def library(model: ModelSettings) -> ModuleType:
    """Return the room that knows the models of `model.library`."""
    return timm_models if model.library == "timm" else torchvision_models


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
    names: tuple[str, ...] | None = library(model).class_names(model)
    return names


def preset(model: ModelSettings) -> Any:
    """Return the weights' own transform; it knows its ``mean``, ``std``, ``crop_size`` and ``resize_size``."""
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
        weights: dict[str, Any] = {"sha256": digest_file(_existing(path))}
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


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise NetworkError(
            f"model.checkpoint must be a file; got {path} (there is none). Give the path of the weights."
        )
    return path


def _state_dict(model: ModelSettings) -> dict[str, torch.Tensor] | None:
    path = _checkpoint_path(model)
    if path is not None:
        return read_checkpoint(path)
    if model.weights == RANDOM:
        return None
    state: dict[str, torch.Tensor] = library(model).state_dict(model)
    return state


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a ``.safetensors``, ``.pth``, ``.pt`` or ``.th`` file.

    Pickled files are read with ``weights_only=True``: code hidden in one is refused, never run. Weights nested
    under ``state_dict`` and names that begin with ``module.`` (DataParallel) are understood.
    """
    _existing(path)
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise NetworkError(
            f"model.checkpoint must hold tensors alone; {path} holds other Python objects, which could run code. "
            "Where you trust it, convert it once: torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW)."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NetworkError(
            f"model.checkpoint must be a safetensors or torch file; {path} cannot be read ({reason}). "
            "Save or download it again."
        ) from error
    for name in NESTED_UNDER:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NetworkError(
            f"model.checkpoint must hold a state_dict (names to tensors); {path} does not. "
            "Save it with torch.save(network.state_dict(), FILE)."
        )
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _check_fit(network: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    expected = network.state_dict()
    # PyTorch's own count of training batches: old checkpoints lack it, and evaluation never reads it.
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in state]
    unexpected = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {tuple(state[name].shape)} for {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    faults = [
        f"{what}: {listed(names, 3)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen))
        if names
    ]
    if faults:
        raise NetworkError(
            f"model.checkpoint must fit the network; got {source} ({'; '.join(faults)}). "
            "Check model.name, model.factory and model.arguments."
        )
