"""The maps of transformers lie over the image: where one patch of the image changes, the map changes there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer

from pipeline.networks.capture import capture
from pipeline.networks.forward import forward
from pipeline.networks.heads import exposed_heads
from pipeline.networks.layout_pass import layout
from pipeline.networks.maps import as_maps

Make = Callable[[], nn.Module]
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
       "patch_size": 8, "num_labels": 3}  # fmt: skip
SWIN = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "patch_size": 4, "num_labels": 3}
SMALL_TIMM: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
TIMM_SWIN: dict[str, Any] = {"window_size": 4, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 2)}


def torchvision_swin() -> nn.Module:
    return SwinTransformer([4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=3)


def of_timm(name: str, **options: Any) -> Make:
    def make() -> nn.Module:
        timm = pytest.importorskip("timm", reason="needs the package timm")
        network: nn.Module = timm.create_model(name, num_classes=3, **options)
        return network

    return make


def of_transformers(name: str, **options: Any) -> Make:
    def make() -> nn.Module:
        transformers = pytest.importorskip("transformers", reason="needs the package transformers")
        network: nn.Module = getattr(transformers, f"{name}ForImageClassification")(
            getattr(transformers, f"{name}Config")(**options)
        )
        return network

    return make


# Network, side of the images, and layers with the number of patches in a row. The second block of Swin shifts windows.
NETWORKS: dict[str, tuple[Make, int, dict[str, int]]] = {
    "timm deit": (
        of_timm("deit_tiny_distilled_patch16_224", **SMALL_TIMM), 32,
        {"blocks.0": 4, "blocks.1.mlp.fc1": 4, "blocks.1.mlp.act": 4, "blocks.0.attn.qkv": 4},
    ),
    "timm dinov2 with registers": (
        of_timm("vit_small_patch14_reg4_dinov2", **SMALL_TIMM), 32, {"blocks.1": 4, "blocks.1.mlp.act": 4},
    ),
    "transformers deit": (of_transformers("DeiT", **VIT), 32, {"deit.layers.1.mlp.activation_fn": 4}),
    "transformers dinov2 with registers": (
        of_transformers("Dinov2WithRegisters", **VIT, num_register_tokens=4), 32,
        {"dinov2_with_registers.encoder.layer.1.mlp.fc1": 4, "dinov2_with_registers.encoder.layer.1": 4},
    ),
    "torchvision swin": (
        torchvision_swin, 64,
        {"features.1.1": 16, "features.1.1.mlp.0": 16, "features.3.1": 8, "features.3.1.norm1": 8},
    ),
    "timm swin": (
        of_timm("swin_tiny_patch4_window7_224", img_size=64, **TIMM_SWIN), 64,
        {"layers.0.blocks.1": 16, "layers.1.blocks.1": 8, "layers.1.blocks.1.mlp.act": 8},
    ),
    "transformers swin": (
        of_transformers("Swin", image_size=64, **SWIN), 64,
        {"swin.encoder.layers.0.blocks.1": 16, "swin.encoder.layers.1.blocks.1.mlp.fc1": 8},
    ),
    "transformers swin, odd": (  # merges 7 x 7 patches into 4 x 4
        of_transformers("Swin", image_size=28, **SWIN), 28,
        {"swin.encoder.layers.0.blocks.1": 7, "swin.encoder.layers.1.blocks.1": 4},
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # of the packages
@pytest.mark.parametrize("name", NETWORKS)
def test_a_map_changes_where_the_image_does(name: str) -> None:
    make, side, layers = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make().eval()
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1, 1)
    found = layout(network, images)
    for layer, n_patches in layers.items():
        info = found.find(layer)
        assert info.maps[1:] == (n_patches, n_patches), layer
        assert info.channels is not None
        size = 4 * -(-side // (4 * n_patches))  # pixels; patches at the edge may be extended
        for row, column in ((0, n_patches - 1), (n_patches - 2, 1)):
            changed = images.clone()
            rows, columns = (slice(at * size + 1, (at + 1) * size - 1) for at in (row, column))
            changed[1, :, rows, columns] += 3  # the bright patch, in the second image only
            with torch.no_grad(), capture(network, layer) as captured:
                forward(network, changed)
                maps = as_maps(captured.take(), info.channels)
            change = (maps[1] - maps[0]).abs().sum(dim=0)
            assert int(change.argmax()) == n_patches * row + column, (layer, row, column)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["torchvision swin", "timm swin", "transformers swin"])
def test_only_the_heads_in_the_shifted_window_of_a_bright_patch_change(name: str) -> None:
    make, side, layers = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make().eval()
    block = next(iter(layers)).rpartition(".")[0]
    attention = "attention" if "transformers" in name else "attn"
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    images[1, :, 20:24, 36:40] += 3  # the patch in row 5 and column 9
    windows = {"0": (range(4, 8), range(8, 12)), "1": (range(2, 10), range(6, 14))}
    for index, (rows, columns) in windows.items():
        with (
            torch.no_grad(),
            exposed_heads(network),
            capture(network, f"{block}.{index}.{attention}.heads") as captured,
        ):
            forward(network, images)
            outputs = captured.take()
        change = (outputs[1] - outputs[0]).abs().sum(dim=2) > 1e-6
        # The first block spreads the change over its window; the second over all shifted windows that this one touches.
        expected = torch.zeros(16, 16, dtype=torch.bool)
        expected[rows.start : rows.stop, columns.start : columns.stop] = True
        assert torch.equal(change, expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("timm swin", "layers.0.blocks.1.attn.qkv"),
        ("transformers swin", "swin.encoder.layers.0.blocks.1.attention.q_proj"),
    ],
)  # fmt: skip
def test_layers_that_see_windows_are_rejected(name: str, layer: str) -> None:
    make, side, _ = NETWORKS[name]
    info = next(each for each in layout(make().eval(), torch.zeros(2, 3, side, side)).layers if each.name == layer)
    assert info.rejection == "an output that is not one tensor with one row per image"
