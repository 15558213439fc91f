"""What is known of a network before it is built, or without building it again: layers, classes, weights and device.

This module imports torch only if it must: the layers of the networks of this package and of the models of torchvision
and timm are kept once they were found (see `pipeline.kept_values`). A network of the user is built every time, because
its code may depend on anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, assert_never

from pydantic import TypeAdapter

import pipeline
from pipeline.errors import NetworkError
from pipeline.kept_values import kept_value
from pipeline.networks.layout import NetworkLayout
from pipeline.networks.portable import portable
from pipeline.networks.remembered import remember
from pipeline.resources import shipped_weights
from pipeline.settings import ModelSettings

RANDOM = "random"  # value of model.weights: as initialised, with a seed
SHIPPED = "shipped"  # value of model.weights: the file of this package
# Packages whose versions determine a model of the library. What transformers builds also depends on its hub's cache.
_PACKAGES: Mapping[str, Sequence[str]] = {
    "torchvision": ("torch", "torchvision"),
    "timm": ("torch", "torchvision", "timm"),
}
# Where the drivers of GPUs are that PyTorch can use: NVIDIA's, on Linux and on Windows' subsystem for it, and AMD's.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia", "/dev/dxg", "/dev/kfd")


def layout_of(model: ModelSettings) -> NetworkLayout:
    """Return the layers of the network; no weights are loaded or downloaded."""

    def found() -> NetworkLayout:
        from pipeline.networks.load import probed_layout

        return probed_layout(model)

    def kept() -> NetworkLayout:
        adapter = _layouts()
        return adapter.validate_python(_kept("layout", model, lambda: adapter.dump_python(found(), mode="json")))

    return remember("layout", model, 0, kept if packages_of(model) else found)


@cache
def _layouts() -> TypeAdapter[NetworkLayout]:
    return TypeAdapter(NetworkLayout)


def input_shape(model: ModelSettings) -> tuple[int, int, int]:
    """Return the number of channels, height and width of the network's input.

    The transform determines height and width, except with ``kind=none``: then they are those of the images, which
    ``model.input_size`` states.
    """
    n_channels, height, width = model.input_size
    match model.transform.kind:
        case "none":
            return n_channels, height, width
        case "resize":
            return n_channels, model.transform.size, model.transform.size
        case "weights":

            def crop_size() -> list[int]:
                from pipeline.networks.libraries import library

                return list(library(model).preset(model).crop_size)

            size = _kept("crop size", model, crop_size) if packages_of(model) else crop_size()
            return n_channels, size[0], size[-1]
        case _:
            assert_never(model.transform.kind)


def class_names(model: ModelSettings) -> tuple[str, ...] | None:
    """Return the names of the network's outputs, or None if neither the settings nor the weights define them.

    With random weights, these are the names that belong to the default weights.
    """
    if model.class_names is not None:
        return model.class_names
    if model.factory is not None or model.checkpoint is not None or "num_classes" in model.arguments:
        return None

    def names() -> list[str] | None:
        from pipeline.networks.libraries import library

        found = library(model).class_names(model)
        return None if found is None else list(found)

    found = _kept("class names", model, lambda: {"names": names()})["names"] if packages_of(model) else names()
    return None if found is None else tuple(found)


def checkpoint_path(model: ModelSettings) -> Path | None:
    """Return the path of the file of weights; None for random and published weights."""
    if model.checkpoint is not None:
        return Path(model.checkpoint).expanduser()
    return shipped_weights(model.name) if model.weights == SHIPPED else None


def require_checkpoint(path: Path) -> Path:
    """Return the path; raise `NetworkError` if it is not a file."""
    if not path.is_file():
        raise NetworkError(f"model.checkpoint must be an existing file; got {path}. Give the path of the weights.")
    return path


def device_type(model: ModelSettings) -> Literal["cpu", "cuda"]:
    """Return the type of the device that the network runs on, see `pipeline.networks.load.resolve_device`."""
    if model.device == "cpu" or (model.device == "auto" and _has_no_gpu()):
        return "cpu"
    from pipeline.networks.load import resolve_device

    return "cuda" if resolve_device(model).type == "cuda" else "cpu"


def _has_no_gpu() -> bool:
    """Return whether torch could not find a GPU, as far as this is known without importing torch."""
    return "torch" not in sys.modules and sys.platform == "linux" and not any(map(os.path.exists, _GPU_DEVICES))


def packages_of(model: ModelSettings) -> Sequence[str]:
    """Return the packages whose versions determine the network apart from its weights; none if other things may.

    These are networks of this package, and models of libraries whose names stand for code in the library. Arguments
    that name files or folders are other things.
    """
    if portable(model.arguments) != model.arguments:
        return ()
    if model.factory is None:
        packages = _PACKAGES.get(model.library, ())
        return packages if all(map(find_spec, packages)) else ()
    return ("torch", "safetensors") if _is_own(model.factory.partition(":")[0]) else ()


def _is_own(module: str) -> bool:
    """Return whether a module is a file of this package, and not of another one called ``pipeline``."""
    top, *parts = module.split(".")
    return top == pipeline.__name__ and Path(pipeline.__file__).parent.joinpath(*parts).with_suffix(".py").is_file()


def _kept(what: str, model: ModelSettings, compute: Callable[[], Any]) -> Any:
    """Return a value that only depends on what the model is, and not on its weights; see `kept_value`."""
    inputs = {
        "library": model.library if model.factory is None else None,
        "name": model.name,
        "factory": model.factory,
        "arguments": model.arguments,
        "weights": model.weights,
        # A file with the name of one of the published files contains these weights, which imply arguments.
        "checkpoint": None if model.checkpoint is None else Path(model.checkpoint).name,
        "input": list(model.input_size),
        "transform": [model.transform.kind, model.transform.size],
        "channels": model.channels,
    }
    return kept_value(what, inputs, packages_of(model), compute)
