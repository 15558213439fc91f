"""What is known of networks without building them: the same as if they were built, and nothing of networks of users."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from pipeline import kept_values
from pipeline.config import compose_settings
from pipeline.networks import known, torchvision_models
from pipeline.networks.arrangement import Arrangement, Heads, PatchTokens, shape_of_maps
from pipeline.networks.declared import packages_of
from pipeline.networks.identity import identity
from pipeline.networks.known import device_type, layout_of
from pipeline.networks.load import probed_layout
from pipeline.networks.maps import as_maps
from pipeline.settings import ModelSettings

FACTORY = "tests.helpers.networks:no_such_factory"


def model(*overrides: str) -> ModelSettings:
    return compose_settings(overrides).model


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "swin_t"])
def test_the_kept_layers_are_those_of_the_network(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_values, "_folder", lambda: tmp_path)
    asked = model("model=torchvision", f"model.name={name}", "model.weights=random")
    expected = probed_layout(asked)
    assert layout_of(asked) == expected
    monkeypatch.setattr("pipeline.networks.load.probed_layout", None)  # not called again
    assert layout_of(asked) == expected


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((8, 5, 4), "first"), ((5, 4, 8), "last"), ((8,), "first"), ((8,), "last"), ((8, 20), "first"),
        ((20, 8), "last"),
        ((21, 8), PatchTokens(1, 5, 4)), ((20, 8), Heads(2, "last")), ((21, 8), Heads(4, PatchTokens(1, 5, 4))),
        ((5, 4, 8), Heads(2, "last")),
    ],
)  # fmt: skip
def test_the_shape_of_maps_is_that_of_the_maps(shape: tuple[int, ...], channels: Arrangement) -> None:
    assert shape_of_maps(shape, channels) == tuple(as_maps(torch.zeros((3, *shape)), channels).shape[1:])


def test_nothing_is_kept_of_networks_that_may_depend_on_files_or_on_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packages_of(model("model=resnet18")) == ("torch", "torchvision")
    assert packages_of(model()) == ("torch", "safetensors")  # the network of this package
    own = ["model=torchvision", "model.name=own", "model.transform.kind=none"]
    assert packages_of(model(*own, f"model.factory={FACTORY}")) == ()
    # A package of the user with the same name is not this one.
    assert packages_of(model(*own, "model.factory=pipeline.networks.mine:network")) == ()
    (tmp_path / "file.json").write_text("{}")
    assert packages_of(model("model=resnet18", f"+model.arguments.config={tmp_path / 'file.json'}")) == ()
    assert packages_of(model("model=resnet18", "+model.arguments.num_classes=3")) == ("torch", "torchvision")
    assert packages_of(model("model=transformers", "model.name=vit", "model.weights=random")) == ()


def test_the_identity_follows_the_file_of_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from pipeline.networks.weight_files import checkpoint_path

    shipped = checkpoint_path(model())
    assert shipped is not None
    weights = load_file(shipped)
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    asked = model(f"model.checkpoint={path}")
    assert identity(asked, 0) == identity(model(), 0)
    weights["conv1.weight"][0, 0, 0, 0] += 1
    save_file(weights, path)
    assert identity(asked, 0) != identity(model(), 0)


def test_a_gpu_is_looked_for_by_torch_if_there_may_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolved(settings: ModelSettings) -> torch.device:
        asked.append(settings.device)
        return torch.device("cuda")

    monkeypatch.setattr("pipeline.networks.load.resolve_device", resolved)
    monkeypatch.delitem(sys.modules, "torch")  # as before it is imported
    monkeypatch.setattr(known, "_GPU_DEVICES", ("/no/such/device",))
    assert [device_type(model(f"model.device={each}")) for each in ("auto", "cpu", "cuda")] == ["cpu", "cpu", "cuda"]
    monkeypatch.setattr(known, "_GPU_DEVICES", (os.devnull,))
    assert device_type(model()) == "cuda"
    assert asked == ["cuda", "auto"]


@pytest.mark.parametrize(
    "variables",
    [{}, {"TORCH_HOME": "~/weights"}, {"XDG_CACHE_HOME": "/caches"}, {"TORCH_HOME": "/a", "XDG_CACHE_HOME": "/b"}],
)
def test_the_folder_of_downloaded_weights_is_that_of_torch(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    expected = torch.hub.get_dir()
    monkeypatch.delitem(sys.modules, "torch")
    assert str(torchvision_models._hub_folder()) == expected


def test_a_user_without_a_home_directory_has_the_folder_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is not in its list of users."""
    for name in ("TORCH_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    expected = torch.hub.get_dir()
    monkeypatch.delitem(sys.modules, "torch")
    assert str(torchvision_models._hub_folder()) == expected
