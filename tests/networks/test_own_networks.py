"""Networks of one's own, from the settings: how they are built, checked before the work, and loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline import layers
from pipeline.errors import NetworkError, SettingsError
from pipeline.networks.declared import input_shape
from pipeline.networks.known import layout_of
from pipeline.networks.layout_pass import layout
from pipeline.networks.load import load
from pipeline.resolve import check_network, resolve
from pipeline.settings import ModelSettings, Settings
from tests.helpers.settings import Compose

NAME = "tests.networks.test_own_networks"


class Lazy(nn.Sequential):
    """A network whose weights have shapes after the first pass only."""

    def __init__(self) -> None:
        super().__init__(nn.LazyConv2d(5, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


class Fixed(nn.Module):
    """A network for images of 8 x 8 pixels."""

    def __init__(self, n_features: int = 180) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 5, 3), nn.Linear(n_features, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(images).flatten(1))


class ReturnsNothing(Fixed):
    """Its `train` returns nothing, and so does its `eval`."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout()

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)
        self.conv.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.dropout(self.conv(images).flatten(1)))


class ReadsValues(Fixed):
    """Its constructor reads a value, which is impossible on torch's meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [value.item() for value in torch.linspace(0, 0.1, 3)]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * (1 + sum(self.rates))


class Squeezes(Fixed):
    def __init__(self) -> None:
        super().__init__(5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(nn.functional.adaptive_avg_pool2d(self.conv(images), 1).squeeze())


class NormalisesTheBatch(Fixed):
    """Batch normalisation of vectors by the batch: for one image, there is nothing to normalise by."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(images))


def scripted() -> nn.Module:
    return torch.jit.script(Fixed())


def model(compose: Compose, factory: str, *overrides: str) -> ModelSettings:
    return own(compose, factory, *overrides).model


def own(compose: Compose, factory: str, *overrides: str) -> Settings:
    return resolve(
        compose(
            f"model.factory={NAME}:{factory}", "model.weights=random", "class_name=null", "target_class=1",
            *overrides,
        )
    )  # fmt: skip


def test_lazy_modules_are_initialised_with_the_seed(compose: Compose, tmp_path: Path) -> None:
    settings = model(compose, "Lazy", "layer='0'")
    assert layout_of(settings).find("0").maps == (5, 6, 6)
    one, again, other = (load(settings, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(one["0.weight"], again["0.weight"])
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert one["4.weight"].shape == (4, 180)
    # The weights can be used for gradients, and loaded from a checkpoint.
    torch.save(other, tmp_path / "weights.pth")
    checked = own(compose, "Lazy", "layer='0'", f"model.checkpoint={tmp_path / 'weights.pth'}")
    check_network(checked)
    network = load(checked.model, seed=1)
    assert all(torch.equal(value, other[name]) for name, value in network.state_dict().items())
    images = torch.rand(2, 1, 8, 8)
    network(images).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_network_whose_eval_returns_nothing_is_in_evaluation_mode(compose: Compose) -> None:
    settings = model(compose, "ReturnsNothing", "layer=conv")
    assert layout_of(settings).find("conv").maps == (5, 6, 6)
    network = load(settings, seed=0)
    assert not any(module.training for module in network.modules())
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(network(images), network(images))  # no dropout


def test_a_constructor_that_reads_values_is_checked_against_a_checkpoint(compose: Compose, tmp_path: Path) -> None:
    state = ReadsValues().state_dict()
    torch.save(state, tmp_path / "weights.pth")
    settings = own(compose, "ReadsValues", "layer=conv", f"model.checkpoint={tmp_path / 'weights.pth'}")
    check_network(settings)
    assert torch.equal(load(settings.model, seed=0).state_dict()["fc.weight"], state["fc.weight"])


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("Squeezes", "the network must return one row of scores per image, (n, n_outputs) or (n,); got shape (4,) "),
        (
            "NormalisesTheBatch",
            "the network must process the images; got ValueError: Expected more than 1 value per channel ",
        ),
    ],
)
def test_a_network_that_needs_two_images_is_refused_if_a_batch_may_have_one(
    factory: str, reason: str, compose: Compose
) -> None:
    for size in (1, 2):
        with pytest.raises(NetworkError) as caught:
            check_network(own(compose, factory, "layer=conv", f"model.batch_size={size}"))
        start = "model.batch_size must be at least 3 for a network that cannot process a single image; got "
        assert str(caught.value).startswith(f"{start}{size} ({reason}")
        assert str(caught.value).endswith("). Increase it.")
        assert "\n" not in str(caught.value)
    check_network(own(compose, factory, "layer=conv", "model.batch_size=3"))
    check_network(own(compose, "Fixed", "layer=conv", "model.batch_size=1"))


def test_torchscript_is_refused(compose: Compose) -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        network = scripted()
    message = (
        "the network must consist of modules in Python; got TorchScript (RecursiveScriptModule). "
        "Build the network from its code, and load the weights of its state dict with model.checkpoint."
    )
    for each in (network, nn.Sequential(network)):
        with pytest.raises(NetworkError) as caught:
            layout(each.eval(), torch.rand(2, 1, 8, 8))
        assert str(caught.value) == message


def test_the_size_of_the_input_is_that_of_the_transform(compose: Compose) -> None:
    def shape(*overrides: str) -> tuple[int, int, int]:
        return input_shape(compose(*overrides).model)

    assert shape() == (1, 8, 8)
    assert shape("model.transform.kind=none", "model.input_size=[1,6,9]") == (1, 6, 9)
    assert shape("model.transform.kind=resize", "model.transform.size=20") == (1, 20, 20)
    assert shape("model=torchvision", "model.name=inception_v3") == (3, 299, 299)
    assert shape("model=torchvision", "model.name=efficientnet_b1") == (3, 240, 240)
    assert shape("model=timm", "model.name=vit_tiny_patch16_384") == (3, 384, 384)


@pytest.mark.parametrize(
    ("overrides", "layer", "summary"),
    [
        (("model=timm", "model.name=vit_tiny_patch16_384"), "blocks.11.mlp.fc2 Linear 192 24 x 24", "384 x 384"),
        (("model=torchvision", "model.name=inception_v3"), "Mixed_5b.branch1x1.conv Conv2d 64 35 x 35", "299 x 299"),
        (("model.transform.kind=resize", "model.transform.size=12"), "conv1 Conv2d 16 12 x 12", "12 x 12"),
    ],
    ids=["timm", "torchvision", "resize"],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_layers_are_listed_for_the_size_of_the_input(
    overrides: tuple[str, ...],
    layer: str,
    summary: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["layers", *overrides, "model.weights=random"])
    layers.main()
    out = capsys.readouterr().out
    assert any(" ".join(line.split()).startswith(layer) for line in out.splitlines())
    assert f" for images of {summary} pixels; " in out


def test_a_model_of_timm_for_another_size_is_refused_by_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["model=timm", "model.name=vit_tiny_patch16_224", "model.transform.kind=resize"]
    monkeypatch.setattr(sys, "argv", ["layers", *arguments, "model.transform.size=96"])
    with pytest.raises(SystemExit):
        layers.main()
    (line,) = capsys.readouterr().err.splitlines()
    start = (
        "error: the network must process the images; got AssertionError: Input height (96) doesn't match model (224) ("
    )
    assert line.startswith(start)
    assert "patch_embed.py:" in line
    assert line.endswith(
        ", input of shape (2, 3, 96, 96)). Correct the network, or check model.input_size and model.transform."
    )
    monkeypatch.setattr(sys, "argv", ["layers", *arguments, "model.transform.size=96", "+model.arguments.img_size=96"])
    layers.main()
    assert " for images of 96 x 96 pixels; " in capsys.readouterr().out


def test_images_have_one_or_three_channels(compose: Compose) -> None:
    with pytest.raises(SettingsError) as caught:
        compose("model.input_size=[4,32,32]")
    assert str(caught.value) == (
        "model.input_size must begin with 1 (grey images) or 3 (colour images); got [4, 32, 32]. "
        "Wrap a network with other inputs in a module that takes grey or colour images."
    )


def test_an_exception_of_the_factory_is_reported_with_its_place(compose: Compose) -> None:
    settings = model(compose, "Fixed", "layer=conv", "+model.arguments.n_features=-1")
    with pytest.raises(NetworkError) as caught:
        layout_of(settings)
    found: Any = str(caught.value)
    assert found.startswith("model.factory must build ")
    assert "RuntimeError: " in found
    assert f" ({__file__}:" in found
    assert "\n" not in found
