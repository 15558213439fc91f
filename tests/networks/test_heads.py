"""Attention heads as channels, compared with outputs that are computed from queries, keys and values by hand."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

import pcace
from pipeline.artifacts import Workspace
from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.arrangement import Heads, PatchTokens
from pipeline.networks.capture import capture
from pipeline.networks.channel_ablation import AblationTask, ablated_scores
from pipeline.networks.conductance import conductance
from pipeline.networks.contributions import gradient_x_activation
from pipeline.networks.examined import ExaminedNetwork, NetworkRequest
from pipeline.networks.forward import forward
from pipeline.networks.heads import AttentionHeads, exposed_heads
from pipeline.networks.inputs import TensorInputs
from pipeline.networks.layout_pass import layout
from pipeline.stages.activate import activations_of
from tests.helpers.networks import only
from tests.helpers.project import in_ci

N_IMAGES = 6
Make = Callable[[], nn.Module]
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8, "image_size": 32,
       "patch_size": 8, "num_labels": 3}  # fmt: skip


def torchvision_vit() -> nn.Module:
    return VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=8, num_classes=3)


def torchvision_swin() -> nn.Module:
    return SwinTransformer([4, 4], 12, [2, 1], [2, 3], [4, 4], num_classes=3)


def of_timm(name: str, **options: Any) -> Make:
    def make() -> nn.Module:
        timm = pytest.importorskip("timm", reason="needs the package timm") if not in_ci() else __import__("timm")
        network: nn.Module = timm.create_model(name, num_classes=3, **options)
        return network

    return make


def of_transformers(name: str, **options: Any) -> Make:
    def make() -> nn.Module:
        transformers = pytest.importorskip("transformers", reason="needs the package transformers")
        config = getattr(transformers, f"{name}Config")(**options)
        network: nn.Module = getattr(transformers, f"{name}ForImageClassification")(config)
        return network

    return make


SMALL_TIMM: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
SWIN = {"embed_dim": 12, "depths": [2, 1], "num_heads": [2, 3], "window_size": 4, "patch_size": 4, "num_labels": 3}

# Network, layer of attention, and the number of class and register tokens. Each of the networks has 4 x 4 patches.
PLAIN: dict[str, tuple[Make, str, int]] = {
    "torchvision vit": (torchvision_vit, "encoder.layers.encoder_layer_0.self_attention", 1),
    "timm vit": (of_timm("vit_tiny_patch16_224", **SMALL_TIMM), "blocks.0.attn", 1),
    "timm deit": (of_timm("deit_tiny_distilled_patch16_224", **SMALL_TIMM), "blocks.0.attn", 2),
    "timm dinov2": (of_timm("vit_small_patch14_reg4_dinov2", **SMALL_TIMM), "blocks.0.attn", 5),
    "transformers vit": (of_transformers("ViT", **VIT), "vit.layers.0.attention", 1),
    "transformers deit": (of_transformers("DeiT", **VIT), "deit.layers.0.attention", 2),
    "transformers dinov2": (
        of_transformers("Dinov2WithRegisters", **VIT, num_register_tokens=4),
        "dinov2_with_registers.encoder.layer.0.attention", 5,
    ),
    "transformers vit, eager": (
        of_transformers("ViT", **VIT, attn_implementation="eager"), "vit.layers.0.attention", 1,
    ),
}  # fmt: skip
# Network, attention layer, side of the images, and height of the maps, window and shift.
WINDOWED: dict[str, tuple[Make, str, int, tuple[int, int, int]]] = {
    "torchvision": (torchvision_swin, "features.1.0.attn", 32, (8, 4, 0)),
    "torchvision, shifted": (torchvision_swin, "features.1.1.attn", 32, (8, 4, 2)),
    "torchvision, shifted and padded": (torchvision_swin, "features.1.1.attn", 40, (10, 4, 2)),
    "timm, shifted": (
        of_timm("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=12, depths=(2, 1),
                num_heads=(2, 3)),
        "layers.0.blocks.1.attn", 32, (8, 4, 2),
    ),
    "timm, shifted and padded": (
        of_timm("swin_tiny_patch4_window7_224", img_size=40, window_size=4, embed_dim=12, depths=(2, 1),
                num_heads=(2, 3)),
        "layers.0.blocks.1.attn", 40, (10, 4, 2),
    ),
    "transformers, shifted": (
        of_transformers("Swin", image_size=32, **SWIN), "swin.encoder.layers.0.blocks.1.attention", 32, (8, 4, 2),
    ),
    "transformers, shifted and padded": (
        of_transformers("Swin", image_size=40, **SWIN), "swin.encoder.layers.0.blocks.1.attention", 40, (10, 4, 2),
    ),
}  # fmt: skip


def seeded(make: Make) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make().eval()
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:  # larger than usual, so that attention is far from uniform
                nn.init.normal_(parameter, std=0.3)
            elif "gamma" in name or "lambda" in name:  # the scales of DINOv2's blocks, at first 1e-5
                nn.init.ones_(parameter)
    return network


def images_of(side: int = 32) -> torch.Tensor:
    return torch.rand(N_IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))


def scores_of(outputs: Any) -> torch.Tensor:
    return outputs if isinstance(outputs, torch.Tensor) else outputs.logits


def class_score(outputs: torch.Tensor) -> torch.Tensor:
    return outputs[:, 1].double()


def observed(network: nn.Module, module: nn.Module, images: torch.Tensor, *, is_input: bool = True) -> torch.Tensor:
    """Return the first input, or the output, of a module in a plain pass."""
    found: list[torch.Tensor] = []

    def record(_module: nn.Module, inputs: Any, *rest: Any) -> None:
        value = inputs[0] if is_input and inputs else rest[0]
        found.append(value["hidden_states"] if isinstance(value, dict) else value)

    handle = (
        module.register_forward_pre_hook(record, with_kwargs=True) if is_input else module.register_forward_hook(record)
    )
    with torch.no_grad():
        network(images)
    handle.remove()
    return found[0]


def projected(attention: nn.Module, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values, each (..., n_units), whatever the package calls their weights."""
    with torch.no_grad():
        if isinstance(attention, nn.MultiheadAttention):
            whole = tokens @ attention.in_proj_weight.T + attention.in_proj_bias
        elif hasattr(attention, "qkv"):
            whole = attention.get_submodule("qkv")(tokens)
        else:
            whole = torch.cat([attention.get_submodule(f"{name}_proj")(tokens) for name in "qkv"], dim=-1)
    query, key, value = whole.chunk(3, dim=-1)
    return query, key, value


def outputs_by_hand(attention: nn.Module, tokens: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Return the output of each head, (n_images, n_tokens, n_heads, n_units), head by head."""
    query, key, value = projected(attention, tokens)
    size = query.shape[-1] // n_heads
    found = []
    for head in range(n_heads):
        units = slice(head * size, (head + 1) * size)
        logits = torch.einsum("nqd,nkd->nqk", query[..., units], key[..., units]) / size**0.5
        found.append(
            torch.einsum("nqk,nkd->nqd", logits.exp() / logits.exp().sum(dim=2, keepdim=True), value[..., units])
        )
    return torch.stack(found, dim=2)


@pytest.mark.filterwarnings("ignore")  # of the packages
@pytest.mark.parametrize("name", PLAIN)
def test_the_map_of_a_head_is_the_norm_of_its_output_by_hand(name: str) -> None:
    make, layer, n_others = PLAIN[name]
    network, images = seeded(make), images_of()
    attention = network.get_submodule(layer)
    by_hand = outputs_by_hand(attention, observed(network, attention, images), 2)
    with torch.no_grad():
        scores = scores_of(network(images))
    found = layout(network, images[:2]).find(f"{layer}.heads")
    assert found.channels == Heads(2, PatchTokens(n_others, 4, 4))
    ranking = pcace.rank(
        network, images, f"{layer}.heads", 1, ranker="pearson", bootstrap=0, n_components=1, progress=False
    )
    expected = by_hand[:, n_others:].norm(dim=3).reshape(N_IMAGES, 4, 4, 2).permute(3, 0, 1, 2)
    np.testing.assert_allclose(ranking.activations.maps, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ranking.activations.class_score, scores[:, 1], rtol=0, atol=1e-5)
    assert not hasattr(attention, "heads")
    assert "forward" not in vars(attention)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    for mode in ("zero", "mean", "resample"):
        check_ablation(network, layer, images, by_hand, n_others, mode)


def check_ablation(
    network: nn.Module, layer: str, images: torch.Tensor, by_hand: torch.Tensor, n_others: int, mode: str
) -> None:
    """Compare the class scores when head 1 is ablated with those of the attention layer's output made by hand."""
    with exposed_heads(network):
        examined = ExaminedNetwork.of_module(network, f"{layer}.heads", class_score, images[:2])
        inputs = TensorInputs([images])
        activations = activations_of(examined, inputs, 4, Workspace(), lambda *_: None)
        tasks = {"task": AblationTask(np.eye(2, dtype=bool)[[1]], mode)}
        found = ablated_scores(examined, inputs, activations, tasks, batch_size=4, seed=0, progress=lambda *_: None)
    changed = by_hand.clone()
    if mode == "resample":
        order = np.random.default_rng(0).permutation(N_IMAGES)
        partner = np.empty_like(order)
        partner[order] = np.roll(order, 1)
        changed[:, n_others:, 1] = by_hand[partner, n_others:, 1]
    else:
        changed[:, :, 1] = 0 if mode == "zero" else by_hand[:, n_others:, 1].mean(dim=(0, 1))
    projection = next(
        m for n, m in network.get_submodule(layer).named_children() if n in ("proj", "o_proj", "out_proj")
    )
    assert isinstance(projection, nn.Linear)

    def replaced(_module: nn.Module, _inputs: object, output: Any) -> Any:
        tensor = changed.flatten(2) @ projection.weight.T + projection.bias
        return (tensor, *output[1:]) if isinstance(output, tuple) else tensor

    handle = network.get_submodule(layer).register_forward_hook(replaced)
    with torch.no_grad():
        expected, untouched = scores_of(network(images))[:, 1], activations.class_score
    handle.remove()
    np.testing.assert_allclose(found["task"][0], expected, rtol=1e-4, atol=1e-5)
    assert abs(found["task"][0] - untouched).max() > 1e-3


def swin_by_hand(attention: nn.Module, tokens: torch.Tensor, n_heads: int, window: int, shift: int) -> torch.Tensor:
    """Return the output of each head, (n_images, height, width, n_heads, n_units), in the order of the image.

    Each patch attends to the patches in its window, computed from the coordinates of both in the image. `tokens` are
    those of the image, (n_images, height, width, n_channels), extended by zeros to a multiple of the window.
    """
    query, key, value = projected(attention, tokens)
    height, width, size = tokens.shape[1], tokens.shape[2], query.shape[-1] // n_heads
    table = next(p for name, p in attention.named_parameters() if name.endswith("relative_position_bias_table"))
    places = [(row, column) for row in range(height) for column in range(width)]
    shifted = [((row - shift) % height, (column - shift) % width) for row, column in places]

    def region(row: int, column: int) -> tuple[int, ...]:
        """Return the window, and the part of it that was joined from one side of the image."""
        parts = [(place >= side - window) + (place >= side - shift) for place, side in ((row, height), (column, width))]
        return (row // window, column // window, *(parts if shift else ()))

    bias = torch.full((n_heads, len(places), len(places)), -torch.inf)
    for first, one in enumerate(shifted):
        for second, other in enumerate(shifted):
            if region(*one) == region(*other):
                rows, columns = (one[axis] % window - other[axis] % window + window - 1 for axis in (0, 1))
                bias[:, first, second] = table[rows * (2 * window - 1) + columns].detach()
    split = [each.reshape(len(tokens), len(places), n_heads, size) for each in (query, key, value)]
    attended = (torch.einsum("nqhd,nkhd->nhqk", split[0], split[1]) / size**0.5 + bias).softmax(dim=3)
    return torch.einsum("nhqk,nkhd->nqhd", attended, split[2]).reshape(len(tokens), height, width, n_heads, size)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WINDOWED)
def test_the_heads_of_windows_are_in_the_order_of_the_image(name: str) -> None:
    make, layer, side, (height, window, shift) = WINDOWED[name]
    network, images = seeded(make), images_of(side)
    block = network.get_submodule(layer.rpartition(".")[0])
    normalise = next(module for child, module in block.named_children() if child in ("norm1", "layernorm_before"))
    tokens = observed(network, normalise, images, is_input=False).reshape(N_IMAGES, height, height, 12)
    extent = -(-height // window) * window
    attention = network.get_submodule(layer)
    with exposed_heads(network), capture(network, f"{layer}.heads") as captured:
        forward(network, images)
        found = captured.take()
    assert found.shape == (N_IMAGES, height, height, 12)
    if "timm" in name:  # it shifts the map before it extends it
        rolled = torch.roll(tokens, (-shift, -shift), dims=(1, 2))
        padded = nn.functional.pad(rolled, (0, 0, 0, extent - height, 0, extent - height))
        padded = torch.roll(padded, (shift, shift), dims=(1, 2))
        by_hand = torch.roll(swin_by_hand(attention, padded, 2, window, shift), (-shift, -shift), dims=(1, 2))
        by_hand = torch.roll(by_hand[:, :height, :height], (shift, shift), dims=(1, 2))
    else:
        padded = nn.functional.pad(tokens, (0, 0, 0, extent - height, 0, extent - height))
        by_hand = swin_by_hand(attention, padded, 2, window, shift)[:, :height, :height]
    torch.testing.assert_close(found, by_hand.flatten(3), rtol=1e-4, atol=1e-5)
    check_rows_of_windows(network, layer, images)


def check_rows_of_windows(network: nn.Module, layer: str, images: torch.Tensor) -> None:
    """Ablation in the order of the image sets the same units of the projection's input to zero, in all windows."""
    with exposed_heads(network):
        examined = ExaminedNetwork.of_module(network, f"{layer}.heads", class_score, images[:2])
        inputs = TensorInputs([images])
        activations = activations_of(examined, inputs, 4, Workspace(), lambda *_: None)
        tasks = {"task": AblationTask(np.eye(2, dtype=bool)[[1]], "zero")}
        found = ablated_scores(examined, inputs, activations, tasks, batch_size=4, seed=0, progress=lambda *_: None)
    projection = next(m for n, m in network.get_submodule(layer).named_children() if n in ("proj", "o_proj"))
    assert isinstance(projection, nn.Linear)
    weight = projection.weight.detach().clone()
    with torch.no_grad():
        projection.weight[:, 6:] = 0  # equal to zeros in the input
        expected = scores_of(network(images))[:, 1]
        projection.weight.copy_(weight)
    np.testing.assert_allclose(found["task"][0], expected, rtol=1e-4, atol=1e-5)
    assert abs(found["task"][0] - activations.class_score).max() > 1e-5


@contextmanager
def examined_heads(make: Make, layer: str, images: torch.Tensor) -> Iterator[ExaminedNetwork]:
    network = seeded(make)
    with exposed_heads(network):
        yield ExaminedNetwork.of_module(network, layer, class_score, images[:2])


@pytest.mark.parametrize("make", [torchvision_vit, torchvision_swin])
def test_contributions_of_a_head_are_the_sum_of_those_of_its_units(make: Make) -> None:
    images = images_of()
    layer = "features.1.1.attn" if make is torchvision_swin else "encoder.layers.encoder_layer_1.self_attention"
    with examined_heads(make, f"{layer}.heads", images) as examined:
        found = only(gradient_x_activation([examined]))(images).channels
        complete = only(conductance([examined], 40))(images)
        outputs: list[torch.Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            outputs.append(output.detach().requires_grad_())
            return outputs[0].clone()

        handle = examined.module.register_forward_hook(keep)
        torch.autograd.backward(class_score(examined.network(images)).sum())
        handle.remove()
    gradient = outputs[0].grad
    assert gradient is not None
    products = (gradient * outputs[0]).flatten(1, -2).sum(dim=1).detach()
    expected = products.reshape(N_IMAGES, 2, -1).sum(dim=2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert complete.channels.shape == (N_IMAGES, 2)


def test_the_heads_of_all_attention_layers_are_listed() -> None:
    images = images_of()
    network = seeded(torchvision_vit)
    layer = "encoder.layers.encoder_layer_0.self_attention.heads"
    assert layout(network, images[:2], "last").find(layer).maps == (2, 17, 1)
    listed = {each.name for each in layout(network, images[:2]).rankable() if each.type == AttentionHeads.__name__}
    assert listed == {layer, layer.replace("layer_0", "layer_1")}
    with pytest.raises(NetworkError, match=r"^layer must be one of the network's layers; got 'encoder\.heads'\."):
        layout(network, images[:2]).find("encoder.heads")


class Gated(nn.Module):
    """Attention that scales the outputs of its heads before it projects them."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.qkv, self.proj = 2, nn.Linear(3, 24), nn.Linear(8, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n_images, n_tokens = tokens.shape[:2]
        query, key, value = self.qkv(tokens).reshape(n_images, n_tokens, 3, 2, 4).permute(2, 0, 3, 1, 4)
        outputs = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(2 * outputs.transpose(1, 2).reshape(n_images, n_tokens, 8))


class GatedNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.head = Gated(), nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.attn(images.flatten(2).transpose(1, 2)).mean(dim=1))


def test_what_is_not_the_output_of_heads_is_rejected() -> None:
    with pytest.raises(NetworkError) as caught:
        pcace.rank(seeded(GatedNetwork), images_of(8), "attn.heads", 1, progress=False)
    assert str(caught.value) == (
        "layer must consist of the outputs of attention heads, which are the attention times the values; got something "
        "else before the output projection (layer 'attn.heads', Gated). Choose another layer, for example 'attn'."
    )


def test_the_pipeline_opens_the_heads_of_the_network_in_the_settings() -> None:
    arguments = [f"+model.arguments.{name}={value}" for name, value in VIT.items()]
    settings = compose_settings(
        ["model=transformers", "model.name=vit", "model.weights=random", *arguments,
         "layer=vit.layers.0.attention.heads", "target_class=1"]
    )  # fmt: skip
    examined = NetworkRequest.of(settings).open()
    gc.collect()  # nothing that is forgotten removes the heads again
    assert isinstance(examined.module, AttentionHeads)
    assert (examined.n_channels, examined.layer.maps) == (2, (2, 4, 4))
    found = activations_of(examined, TensorInputs([images_of()]), 4, Workspace(), lambda *_: None)
    attention = examined.network.get_submodule("vit.layers.0.attention")
    by_hand = outputs_by_hand(attention, observed(examined.network, attention, images_of()), 2)[:, 1:]
    np.testing.assert_allclose(found.maps[1].reshape(N_IMAGES, 16), by_hand[:, :, 1].norm(dim=2), rtol=1e-4, atol=1e-6)


def test_the_network_is_restored_if_an_error_ends_the_context() -> None:
    network = seeded(torchvision_swin)
    before = [name for name, _ in network.named_modules()]
    with pytest.raises(ValueError, match="stop"), exposed_heads(network):
        assert len(list(network.modules())) > len(before)
        raise ValueError("stop")
    assert [name for name, _ in network.named_modules()] == before
    assert not any("forward" in vars(module) or module._forward_pre_hooks for module in network.modules())


def test_the_report_of_a_ranking_of_heads_runs_the_network_again(tmp_path: Path) -> None:
    layer = "encoder.layers.encoder_layer_1.self_attention.heads"
    options: dict[str, Any] = {"ranker": "pearson", "bootstrap": 0, "n_components": 1, "progress": False}
    settings = {"visualize.maximize_steps": 2, "visualize.n_maximized": 1}
    ranking = pcace.rank(seeded(torchvision_vit), images_of(), layer, 1, settings=settings, **options)
    ranking.report(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Grad-CAM" in text
    assert "cannot be run again" not in text
    assert "could not be computed" not in text
