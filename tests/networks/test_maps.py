"""Whatever order a layer's axes have, what is ranked are its channels, one by one against the network's own numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.artifacts import Activations
from pipeline.errors import NetworkError
from pipeline.networks.load import layout_of, load
from pipeline.networks.maps import as_maps
from pipeline.resolve import resolve
from pipeline.runner import run as run_pipeline
from pipeline.settings import Settings
from pipeline.sources.sklearn_digits import scans
from tests.helpers.settings import Compose


class EveryKind(nn.Module):
    """Convolutions, tokens with attention, channels last, a tuple, linear layers, on 8 x 8 digits."""

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
    """A block keeps the order of what it is given; that of the layers in it tells."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.mlp = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 6))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens + self.mlp(self.norm(tokens))


class Untold(nn.Module):
    """Nothing that says which axis is which."""

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
    """As torchvision's ConvNeXt has it: a LayerNorm by inheritance, over axis 1 all the same."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)  # 8 channels of 8 x 8: no size tells the axes apart
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
    "attention": (6, 64, 1),
    "block": (6, 64, 1),
    "block.mlp.1": (12, 64, 1),
    "signal": (5, 62, 1),
    "features": (7, 1, 1),
    "head": (10, 1, 1),
}


@pytest.mark.parametrize("layer", list(EXPECTED))
def test_every_kind_of_layer_is_ranked_rightly(compose: Compose, tmp_path: Path, layer: str) -> None:
    asked = settings(compose, layer)
    result = run_pipeline(asked, tmp_path / "run")
    found: Activations = result.artifacts[Activations]
    n_channels, height, width = EXPECTED[layer]
    assert found.maps.shape == (n_channels, 20, height, width)
    assert sorted(result.ranking.table.channel) == list(range(n_channels))
    # The same numbers by hand: the network run to the layer in question, and its channels where it has them.
    network = load(resolve(asked).model, seed=0)
    seen: dict[str, torch.Tensor] = {}
    network.get_submodule(layer).register_forward_hook(
        lambda _m, _i, output: seen.update(output=output[0] if isinstance(output, tuple) else output)
    )
    pixels, digits = scans()
    with torch.inference_mode():
        network(torch.from_numpy(pixels[digits == 3][:20]).unsqueeze(1).float() / 255)
    axis = 1 if layer in ("conv", "signal", "features", "head") else -1
    for channel in range(n_channels):
        by_hand = seen["output"].select(axis, channel).reshape(20, height, width).numpy()
        np.testing.assert_allclose(found.maps[channel], by_hand, atol=1e-5)


def test_the_list_of_layers_and_the_run_agree(compose: Compose) -> None:
    found = layout_of(settings(compose, "conv").model)
    assert {layer.name: layer.maps for layer in found.rankable() if layer.name in EXPECTED} == EXPECTED


def test_a_norm_over_axis_one_is_known_by_its_name_where_sizes_do_not_tell(compose: Compose) -> None:
    found = layout_of(settings(compose, "norm", factory="Normed").model)
    assert found.find("norm").channels == "first"


def test_an_order_that_nothing_tells_is_asked_for(compose: Compose) -> None:
    with pytest.raises(NetworkError) as caught:
        layout_of(settings(compose, "own", factory="Untold").model).find("own")
    assert str(caught.value) == (
        "layer must put out (n, channels, height, width), (n, tokens, channels) or (n, features), once a pass; "
        "got shape (n, 4, 6, 6) with no telling which axis the channels are (layer 'own', OwnConvolution). "
        "Set model.channels=first or last."
    )
    told = settings(compose, "own", "model.channels=first", factory="Untold")
    assert layout_of(told.model).find("own").maps == (4, 6, 6)


@pytest.mark.parametrize(
    ("name", "layer", "maps"),
    [
        ("swin_t", "features.1.0", (96, 56, 56)),
        ("swin_t", "features.0.1", (96, 56, 56)),  # a Permute: what follows it tells
        ("vit_b_16", "encoder.layers.encoder_layer_0.self_attention", (768, 197, 1)),
        ("vit_b_16", "heads.head", (1000, 1, 1)),
        ("convnext_tiny", "features.1.0.block.3", (384, 56, 56)),
        ("convnext_tiny", "features.1.0.block.5", (96, 56, 56)),
        ("convnext_tiny", "features.1.0", (96, 56, 56)),
        ("convnext_tiny", "features.0.1", (96, 56, 56)),
    ],
)
def test_torchvisions_transformers_are_understood(
    compose: Compose, name: str, layer: str, maps: tuple[int, ...]
) -> None:
    model = compose("model=torchvision", f"model.name={name}", "model.weights=random").model
    assert layout_of(model).find(layer).maps == maps


def test_as_maps_puts_channels_first() -> None:
    batch = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert as_maps(batch, "first") is batch
    assert torch.equal(as_maps(batch, "last"), batch.permute(0, 3, 1, 2))
    assert torch.equal(as_maps(batch[..., 0], "last")[..., 0], batch[..., 0].transpose(1, 2))
    assert as_maps(batch[:, 0, 0], "first").shape == (2, 5, 1, 1)
