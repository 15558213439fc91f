"""What the settings and the libraries say of a network, without building it: its input, its classes and its code.

This module imports torch only if it must: what is known of the networks of this package and of the models of
torchvision and timm is kept once it was found (see `pipeline.kept_values`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, assert_never

import pipeline
from pipeline.kept_values import kept_value
from pipeline.networks.libraries import library
from pipeline.networks.portable import portable
from pipeline.settings import ModelSettings

# Packages that determine a model of the library. What transformers builds also depends on its hub's cache.
_PACKAGES: Mapping[str, Sequence[str]] = {
    "torchvision": ("torch", "torchvision"),
    "timm": ("torch", "torchvision", "timm"),
}


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
                return list(library(model).preset(model).crop_size)

            size = kept_of("crop size", model, crop_size) if packages_of(model) else crop_size()
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
        found = library(model).class_names(model)
        return None if found is None else list(found)

    found = kept_of("class names", model, lambda: {"names": names()})["names"] if packages_of(model) else names()
    return None if found is None else tuple(found)


def packages_of(model: ModelSettings) -> Sequence[str]:
    """Return the packages that determine the network apart from its weights; none if other things may.

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


def kept_of(what: str, model: ModelSettings, compute: Callable[[], Any]) -> Any:
    """Return a value that only depends on what the model is, and not on its weights; see `kept_value`.

    `packages_of` the model must not be empty. The value and what `compute` returns are in plain JSON types.
    """
    inputs = {
        "library": None if model.factory else [model.library, library(model).architecture(model)],
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
