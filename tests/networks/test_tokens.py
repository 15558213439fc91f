"""The tokens of transformers are maps of patches, without class and register tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer

from pipeline.arrays import FloatArray
from pipeline.artifacts import Activations, Workspace
from pipeline.errors import NetworkError
from pipeline.networks.arrangement import PatchTokens
from pipeline.networks.channel_ablation import AblationTask, ablated_scores
from pipeline.networks.conductance import conductance
from pipeline.networks.contributed import Contributions
from pipeline.networks.contributions import deeplift, gradient_x_activation, integrated_gradients
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.inputs import TensorInputs
from pipeline.networks.layout_pass import layout
from pipeline.networks.maps import as_maps
from pipeline.networks.tokens import patch_tokens
from pipeline.stages.activate import activations_of
from tests.helpers.networks import only

N_IMAGES, SIDE = 6, 4


class Registers(nn.Module):
    """A transformer with a class token and two registers before the patches, and a mask token that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.cls_token, self.mask_token = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 1, 8))
        self.reg_token = nn.Parameter(torch.randn(1, 2, 8))
        self.first = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        others = [token.expand(len(images), -1, -1) for token in (self.cls_token, self.reg_token)]
        return self.head(self.block(self.first(torch.cat([*others, tokens], dim=1)))[:, 0])


class Traceable(Registers):
    """The same network, whose second part is used alone because `torch.fx` can trace it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        others = [token.expand(images.shape[0], -1, -1) for token in (self.cls_token, self.reg_token)]
        return self.head(self.block(self.first(torch.cat([*others, tokens], dim=1)))[:, 0])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(N_IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def seeded(make: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


@pytest.fixture
def network() -> nn.Module:
    return seeded(Registers)


def examined(network: nn.Module, images: torch.Tensor, layer: str = "first.linear2") -> ExaminedNetwork:
    return ExaminedNetwork.of_module(network, layer, lambda outputs: outputs[:, 1].double(), images[:2])


def ignore(done: int, total: int) -> None:
    """Accept the progress."""


@pytest.mark.parametrize(
    ("n_tokens", "grids", "n_others", "n_halvings", "expected"),
    [
        (16, [(4, 4)], 1, 0, PatchTokens(0, 4, 4)),
        (17, [(4, 4)], 1, 0, PatchTokens(1, 4, 4)),
        (15, [(3, 5)], 5, 0, PatchTokens(0, 3, 5)),
        (20, [(8, 8), (3, 5)], 5, 0, PatchTokens(5, 3, 5)),
        (18, [(4, 4)], 1, 0, None),  # one token more than are known
        (16, [(8, 8)], 0, 1, PatchTokens(0, 4, 4)),
        (4, [(8, 8)], 0, 2, PatchTokens(0, 2, 2)),
        (16, [(8, 8)], 0, 0, None),  # nothing merges patches
        (6, [(5, 5)], 0, 2, None),
        (9, [(5, 5)], 0, 2, PatchTokens(0, 3, 3)),  # an odd number of patches is extended before merging
        (16, [], 0, 0, None),
    ],
)
def test_tokens_are_patches_where_their_number_says_so(
    n_tokens: int, grids: list[tuple[int, int]], n_others: int, n_halvings: int, expected: PatchTokens | None
) -> None:
    assert patch_tokens(n_tokens, grids, n_others, n_halvings) == expected


def test_the_layers_of_torchvisions_transformer_are_maps_of_patches(images: torch.Tensor) -> None:
    network = VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3).eval()
    found = layout(network, images[:2])
    for name in ("conv_proj", "encoder.layers.encoder_layer_0.mlp.0", "encoder.layers.encoder_layer_0"):
        assert found.find(name).maps[1:] == (SIDE, SIDE)
    assert found.find("encoder.layers.encoder_layer_0.self_attention").channels == PatchTokens(1, SIDE, SIDE)
    assert found.find("encoder.layers.encoder_layer_0.mlp.0").maps[0] == 16
    all_tokens = layout(network, images[:2], "last")
    assert all_tokens.find("encoder.layers.encoder_layer_0").maps == (8, 17, 1)


def test_the_maps_are_the_patches_row_by_row(network: nn.Module, images: torch.Tensor) -> None:
    found = examined(network, images)
    assert found.channels == PatchTokens(3, SIDE, SIDE)
    output = torch.arange(2 * 19 * 8).reshape(2, 19, 8)
    maps = as_maps(output, found.channels)
    assert maps.shape == (2, 8, SIDE, SIDE)
    for row in range(SIDE):
        for column in range(SIDE):
            assert maps[1, 5, row, column] == output[1, 3 + SIDE * row + column, 5]


def with_tokens(network: nn.Module, images: torch.Tensor, change: torch.Tensor) -> list[float]:
    """Return the class scores with the layer's output replaced."""
    handle = network.get_submodule("first.linear2").register_forward_hook(lambda _m, _i, _o: change)
    with torch.no_grad():
        found: list[float] = network(images)[:, 1].tolist()
    handle.remove()
    return found


@pytest.mark.parametrize("mode", ["zero", "mean", "resample"])
def test_ablation_replaces_all_tokens_or_the_patches(mode: str, network: nn.Module, images: torch.Tensor) -> None:
    found, inputs = examined(network, images), TensorInputs([images])
    activations = activations_of(found, inputs, N_IMAGES, Workspace(), ignore)
    assert activations.maps.shape == (8, N_IMAGES, SIDE, SIDE)
    sets = np.eye(8, dtype=bool)[[2]]
    scores = ablated_scores(
        found, inputs, activations, {"task": AblationTask(sets, mode)}, batch_size=N_IMAGES, seed=0, progress=ignore
    )["task"][0]
    outputs: list[torch.Tensor] = []
    handle = network.get_submodule("first.linear2").register_forward_hook(lambda _m, _i, output: outputs.append(output))
    with torch.no_grad():
        network(images)
    handle.remove()
    change = outputs[0].clone()
    if mode == "resample":
        order = np.random.default_rng(0).permutation(N_IMAGES)
        partner = np.empty_like(order)
        partner[order] = np.roll(order, 1)
        change[:, 3:, 2] = outputs[0][partner, 3:, 2]
    else:
        change[:, :, 2] = 0 if mode == "zero" else outputs[0][:, 3:, 2].mean()
    np.testing.assert_allclose(scores, with_tokens(network, images, change), rtol=0, atol=1e-5)
    assert abs(scores - with_tokens(network, images, outputs[0])).max() > 1e-4


METHODS: dict[str, Callable[[ExaminedNetwork], Contributions]] = {
    "gradient_x_activation": lambda found: only(gradient_x_activation([found])),
    "conductance": lambda found: only(conductance([found], 20)),
    "integrated_gradients": lambda found: integrated_gradients(found, 20),
    "deeplift": deeplift,
}


@pytest.mark.parametrize("make", [Registers, Traceable])
@pytest.mark.parametrize("kind", METHODS)
def test_contributions_include_the_class_token(kind: str, make: type[nn.Module], images: torch.Tensor) -> None:
    network = seeded(make)
    found = examined(network, images, "block")  # only the class token of its output reaches the scores
    if kind == "deeplift" and make is Registers:
        with pytest.raises(NetworkError, match=r"^the network must be traceable by torch\.fx for score=deeplift"):
            METHODS[kind](found)
        return
    contributed = METHODS[kind](found)(images)
    expected = class_token(network, images)
    if kind != "gradient_x_activation":  # those of the zero input are subtracted
        expected = expected - class_token(network, torch.zeros_like(images))
        assert contributed.sums is not None
        assert contributed.sums.error.max() < 1e-4
    assert abs(expected).max() > 0.01
    np.testing.assert_allclose(contributed.channels, expected, rtol=0, atol=1e-4)


def class_token(network: nn.Module, images: torch.Tensor) -> FloatArray:
    """Return the contributions of the channels of the class token behind the block, in which the score is linear."""
    with torch.no_grad():
        token = network.get_submodule("block")(tokens_of(network, images))[:, 0]
    (head,) = (module for name, module in network.named_modules() if name == "head")
    assert isinstance(head, nn.Linear)
    found: FloatArray = (token * head.weight[1]).detach().numpy()
    return found


def tokens_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the input of the block."""
    found: list[torch.Tensor] = []
    handle = network.get_submodule("block").register_forward_pre_hook(lambda _m, inputs: found.append(inputs[0]))
    with torch.no_grad():
        network(images)
    handle.remove()
    return found[0]


def test_activations_keep_their_class_scores(network: nn.Module, images: torch.Tensor) -> None:
    found: Activations = activations_of(examined(network, images), TensorInputs([images]), 4, Workspace(), ignore)
    with torch.no_grad():
        np.testing.assert_allclose(found.class_score, network(images)[:, 1].numpy(), rtol=0, atol=1e-5)
