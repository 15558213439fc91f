"""Each library of models provides the functions of `ModelLibrary`. mypy compares the types, this test the names."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
import torch
from PIL import Image

from pipeline.config import compose_settings
from pipeline.networks.libraries import ModelLibrary, library, library_named
from pipeline.settings import Library, ModelSettings

FUNCTIONS = [name for name, member in vars(ModelLibrary).items() if inspect.isfunction(member) and name[0] != "_"]


@pytest.mark.parametrize("name", get_args(Library))
@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_library_provides_all_functions_with_the_same_arguments(name: Library, function: str) -> None:
    expected = list(inspect.signature(getattr(ModelLibrary, function)).parameters)[1:]  # without self
    assert list(inspect.signature(getattr(library_named(name), function)).parameters) == expected


@pytest.mark.parametrize("name", get_args(Library))
def test_each_library_has_a_config_file_that_selects_it(name: Library) -> None:
    assert compose_settings([f"model={name}", "model.name=any"]).model.library == name


def settings(name: Library, *overrides: str) -> ModelSettings:
    if name != "torchvision":
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'pcace[{name}]'")
    return compose_settings([f"model={name}", "model.name=resnet18", *overrides]).model


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_the_transform_of_weights_has_normalisation_and_sizes(name: Library) -> None:
    model = settings(name)
    preset = library(model).preset(model)
    assert (len(preset.mean), len(preset.std), len(preset.crop_size)) == (3, 3, 1)
    assert preset(Image.new("RGB", (300, 260))).shape == (3, preset.crop_size[0], preset.crop_size[0])


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_random_weights_have_the_class_names_and_the_transform_of_the_default_weights(name: Library) -> None:
    published, random = settings(name), settings(name, "model.weights=random")
    used = library(published)
    assert used.class_names(random) == used.class_names(published) is not None
    assert list(used.preset(random).mean) == list(used.preset(published).mean)


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_arguments_cannot_replace_the_random_weights(name: Library) -> None:
    """The weights of a model are those of the settings, and nothing is downloaded."""
    model = settings(name)
    arguments: dict[Library, dict[str, Any]] = {"torchvision": {"weights": "DEFAULT"}, "timm": {"pretrained": True}}
    with torch.device("meta"), pytest.raises(TypeError, match="multiple values for keyword argument"):
        library(model).factory(model)(**arguments[name])
