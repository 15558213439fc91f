"""The maps of layers with any layout of axes, compared channel by channel with the outputs of the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.artifacts import Activations
from pipeline.errors import NetworkError
from pipeline.networks.arrangement import ChannelAxis
from pipeline.networks.known import layout_of
from pipeline.networks.load import load
from pipeline.networks.maps import as_maps, from_maps
from pipeline.resolve import resolve
from pipeline.runner import run as run_pipeline
from pipeline.settings import Settings
from pipeline.sources.sklearn_digits import scans
from tests.helpers.settings import Compose


class EveryKind(nn.Module):
    """Convolutions, channels on the last axis, attention (which returns a tuple), a block, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.last = nn.LayerNorm(6)  # (n, 8, 8, 6)
        self.act = nn.GELU()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)  # a tuple: (n, 64, 6), None
        self.block = Block()
        self.signal = nn.Conv1d(6, 5, 3)  # (n, 5, 62)
        self.features = nn.Linear(5, 7)
        self.head = nn.Linear(7, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.act(self.last(self.conv(images).permute(0, 2, 3, 1)))
        tokens = maps.flatten(1, 2)
        tokens = self.block(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0])
        return self.head(self.features(self.signal(tokens.transpose(1, 2)).mean(dim=2)).relu())


class Block(nn.Module):
    """A block that keeps the layout of its input; the layers inside it determine the layout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.mlp = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 6))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens + self.mlp(self.norm(tokens))


class Ambiguous(nn.Module):
    """A network in which no module determines the axis of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 1, 3, 3))
        self.own = OwnConvolution(self.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.own(images).mean(dim=(2, 3))


class OwnConvolution(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(images, self.weight)


class LayerNorm2d(nn.LayerNorm):
    """A subclass of LayerNorm that normalises axis 1, as in torchvision's ConvNeXt."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)  # 8 channels of 8 x 8: the sizes do not distinguish the axes
        self.norm = LayerNorm2d(8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(images)).mean(dim=(2, 3))


def settings(compose: Compose, layer: str, *overrides: str, factory: str = "EveryKind") -> Settings:
    return compose(
        f"model.factory=tests.networks.test_maps:{factory}", "model.weights=random", "class_name=3", f"layer={layer}",
        *overrides,
    )  # fmt: skip


EXPECTED = {
    "conv": (6, 8, 8),
    "last": (6, 8, 8),
    "act": (6, 8, 8),
    "attention": (6, 8, 8),
    "block": (6, 8, 8),
    "block.mlp.1": (12, 8, 8),
    "signal": (5, 62, 1),
    "features": (7, 1, 1),
    "head": (10, 1, 1),
}


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize("layer", list(EXPECTED))
def test_all_kinds_of_layers_are_ranked_by_their_channels(compose: Compose, tmp_path: Path, layer: str) -> None:
    configured = settings(compose, layer)
    result = run_pipeline(configured, tmp_path / "run")
    found: Activations = result.artifacts[Activations]
    n_channels, height, width = EXPECTED[layer]
    assert found.maps.shape == (n_channels, 20, height, width)
    assert sorted(result.ranking.table.channel) == list(range(n_channels))
    # The same values by hand: the output of the layer, and its channels on the axis that its definition implies.
    network = load(resolve(configured).model, seed=0)
    recorded: dict[str, torch.Tensor] = {}
    network.get_submodule(layer).register_forward_hook(
        lambda _m, _i, output: recorded.update(output=output[0] if isinstance(output, tuple) else output)
    )
    pixels, digits = scans()
    with torch.inference_mode():
        network(torch.from_numpy(pixels[digits == 3][:20]).unsqueeze(1).float() / 255)
    axis = 1 if layer in ("conv", "signal", "features", "head") else -1
    for channel in range(n_channels):
        by_hand = recorded["output"].select(axis, channel).reshape(20, height, width).numpy()
        np.testing.assert_allclose(found.maps[channel], by_hand, atol=1e-5)


def test_the_layout_has_the_same_maps_as_the_run(compose: Compose) -> None:
    found = layout_of(settings(compose, "conv").model)
    assert {layer.name: layer.maps for layer in found.rankable() if layer.name in EXPECTED} == EXPECTED


def test_a_layer_norm_over_axis_1_is_identified_by_its_name_if_sizes_are_equal(compose: Compose) -> None:
    found = layout_of(settings(compose, "norm", factory="Normed").model)
    assert found.find("norm").channels == "first"


def test_a_layer_whose_channel_axis_cannot_be_inferred_needs_the_setting(compose: Compose) -> None:
    with pytest.raises(NetworkError) as caught:
        layout_of(settings(compose, "own", factory="Ambiguous").model).find("own")
    assert str(caught.value) == (
        "layer must return (n, channels, height, width), (n, tokens, channels) or (n, features), in one call per "
        "forward pass; got shape (n, 4, 6, 6), in which the axis of the channels cannot be inferred (layer 'own', "
        "OwnConvolution). Set model.channels=first or last."
    )
    configured = settings(compose, "own", "model.channels=first", factory="Ambiguous")
    assert layout_of(configured.model).find("own").maps == (4, 6, 6)


@pytest.mark.parametrize(
    ("name", "layer", "maps"),
    [
        ("swin_t", "features.1.0", (96, 56, 56)),
        ("swin_t", "features.0.1", (96, 56, 56)),  # a Permute: the module after it determines the layout
        ("vit_b_16", "encoder.layers.encoder_layer_0.self_attention", (768, 14, 14)),
        ("vit_b_16", "heads.head", (1000, 1, 1)),
        ("convnext_tiny", "features.1.0.block.3", (384, 56, 56)),
        ("convnext_tiny", "features.1.0.block.5", (96, 56, 56)),
        ("convnext_tiny", "features.1.0", (96, 56, 56)),
        ("convnext_tiny", "features.0.1", (96, 56, 56)),
    ],
)
def test_the_layout_of_torchvisions_transformers_is_inferred(
    compose: Compose, name: str, layer: str, maps: tuple[int, ...]
) -> None:
    model = compose("model=torchvision", f"model.name={name}", "model.weights=random").model
    assert layout_of(model).find(layer).maps == maps


def test_as_maps_moves_the_channels_to_axis_1() -> None:
    batch = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert as_maps(batch, "first") is batch
    assert torch.equal(as_maps(batch, "last"), batch.permute(0, 3, 1, 2))
    assert torch.equal(as_maps(batch[..., 0], "last")[..., 0], batch[..., 0].transpose(1, 2))
    assert as_maps(batch[:, 0, 0], "first").shape == (2, 5, 1, 1)


@pytest.mark.parametrize("channels", ["first", "last"])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_from_maps_is_the_inverse_of_as_maps(channels: ChannelAxis, shape: tuple[int, ...]) -> None:
    output = torch.rand(shape)
    assert torch.equal(from_maps(as_maps(output, channels), channels, output.ndim), output)
