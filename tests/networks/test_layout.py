from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.known import layout_of
from pipeline.networks.layout import canonical_name
from pipeline.settings import ModelSettings


def model(*overrides: str) -> ModelSettings:
    return compose_settings(overrides).model


def own(factory: str) -> ModelSettings:
    return model(f"model.factory=tests.networks.test_layout:{factory}", "model.weights=random")


class Awkward(nn.Module):
    """A network whose layers return everything that cannot be ranked."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.relu = nn.ReLU()
        self.pair = Pair()
        self.windows = Windows()
        self.volume = nn.Unflatten(1, (1, 4))
        self.linear = nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps, _ = self.pair(self.relu(self.conv(self.relu(images))))
        self.windows(maps)
        self.volume(maps[:, :, :3, :3])
        logits: torch.Tensor = self.linear(maps.mean(dim=(2, 3)))
        return logits


class Pair(nn.Module):
    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return maps, maps


class Windows(nn.Module):
    """A layer that returns four rows per image, as attention within windows does."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps[:, :, :3, :3]] * 4)


class NeedsValues(Awkward):
    """A network that reads a value, which is impossible on torch's meta device."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images if images.sum().item() >= 0 else -images)


class TwoOutputs(nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images, images


def test_both_spellings_refer_to_the_same_layer() -> None:
    assert canonical_name("layer4[1].conv2") == canonical_name("layer4.1.conv2") == "layer4.1.conv2"
    assert canonical_name("features[28]") == "features.28"


def test_the_digits_network_has_three_convolutions() -> None:
    found = {layer.name: (layer.type, layer.shape) for layer in layout_of(model()).rankable()}
    assert found["conv1"] == ("Conv2d", (16, 8, 8))
    assert found["conv2"] == ("Conv2d", (32, 8, 8))
    assert found["conv3"] == ("Conv2d", (64, 8, 8))
    assert layout_of(model()).n_outputs == 10


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("vgg16", "features.0", (64, 224, 224)),
        ("vgg16", "features.28", (512, 14, 14)),
        ("resnet18", "layer4.1.conv2", (512, 7, 7)),
        ("squeezenet1_1", "features.12.expand3x3", (256, 13, 13)),
        ("densenet121", "features.denseblock4.denselayer16.conv2", (32, 7, 7)),
        ("densenet161", "features.conv0", (96, 112, 112)),
    ],
)
def test_shapes_are_found_for_the_networks_of_the_original_scripts(
    name: str, layer: str, shape: tuple[int, ...]
) -> None:
    found = layout_of(model(f"model={name}"))
    assert (found.find(layer).shape, found.n_outputs) == (shape, 1000)


def test_the_message_about_an_unknown_layer_lists_the_nearest_names() -> None:
    with pytest.raises(NetworkError) as caught:
        layout_of(model()).find("conv4")
    assert str(caught.value) == (
        "layer must be one of the network's layers; got 'conv4'. Nearest: conv3, conv2, conv1. "
        "`pcace layers` lists all."
    )


@pytest.mark.parametrize(
    ("layer", "rejection"),
    [
        ("relu", "got 2 calls in one forward pass (layer 'relu', ReLU)"),
        ("pair", "got an output that is not one tensor with one row per image (layer 'pair', Pair)"),
        ("windows", "got an output that is not one tensor with one row per image (layer 'windows', Windows)"),
        ("volume", "got shape (n, 1, 4, 3, 3) (layer 'volume', Unflatten)"),
    ],
)
def test_a_layer_without_maps_is_rejected(layer: str, rejection: str) -> None:
    with pytest.raises(NetworkError) as caught:
        layout_of(own("Awkward")).find(layer)
    assert str(caught.value) == (
        "layer must return (n, channels, height, width), (n, tokens, channels) or (n, features), in one call per "
        f"forward pass; {rejection}. `pcace layers` lists the layers that can be ranked."
    )


def test_a_network_that_needs_values_runs_on_the_cpu() -> None:
    assert layout_of(own("NeedsValues")).find("conv").shape == (4, 6, 6)


def test_a_network_that_does_not_return_one_row_of_scores_per_image_is_rejected() -> None:
    with pytest.raises(NetworkError) as caught:
        layout_of(own("TwoOutputs"))
    assert str(caught.value) == (
        "the network must return one row of scores per image, (n, n_outputs) or (n,); got tuple (2 images). "
        "Wrap it in a module that returns the scores, or give pcace.rank a function of the outputs as target."
    )
