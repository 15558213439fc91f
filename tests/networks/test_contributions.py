"""The contributions of channels, compared with independent computations: sums, gradients, and ablation by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from examples.cifar10_resnet20.network import resnet20
from pipeline.errors import NetworkError
from pipeline.networks import contributions
from pipeline.networks.contributions import Contributions
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.layout import LayerInfo
from pipeline.networks.tracing import with_separate_activations
from tests.helpers.networks import Deciding, Token

NetworkT = TypeVar("NetworkT", bound=nn.Module)
N_IMAGES = 4
KINDS = ("gradient_x_activation", "conductance", "integrated_gradients", "deeplift", "ablation")


class Chain(nn.Module):
    """A network whose values all pass through `conv`.

    Its activation functions are separate modules, or a function, a method and one module that runs twice.
    """

    def __init__(self, as_modules: bool) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.third, self.head = nn.Conv2d(5, 7, 3, padding=1), nn.Linear(7, 4)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU(inplace=True)
        self.act3, self.pool, self.as_modules = nn.ReLU(), nn.MaxPool2d(2), as_modules

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.as_modules:
            maps = self.act2(self.conv(self.act1(self.stem(images))))
            maps = self.act3(self.third(self.pool(maps)))
        else:
            maps = self.act1(self.conv(functional.relu(self.stem(images))))
            maps = self.act1(self.third(self.pool(maps)).relu())
        return self.head(maps.mean(dim=(2, 3)))


def seeded(network: NetworkT) -> NetworkT:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval().requires_grad_(False)


def images(n: int = N_IMAGES) -> torch.Tensor:
    return torch.randn(n, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def score(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.double()[:, 2]


def examined(network: nn.Module, layer: LayerInfo) -> ExaminedNetwork:
    return ExaminedNetwork(network, layer, score, torch.device("cpu"))


def found(kind: str, network: nn.Module, layer: LayerInfo, inputs: torch.Tensor, n_steps: int = 100) -> torch.Tensor:
    given = examined(network, layer)
    by_kind: dict[str, Callable[[], Contributions]] = {
        "gradient_x_activation": lambda: contributions.gradient_x_activation(given),
        "conductance": lambda: contributions.conductance(given, n_steps),
        "integrated_gradients": lambda: contributions.integrated_gradients(given, n_steps),
        "deeplift": lambda: contributions.deeplift(given),
        "ablation": lambda: contributions.ablation(given, inputs[:3]),
    }
    return by_kind[kind]()(inputs)


def conv(channels: int = 5) -> LayerInfo:
    return LayerInfo("conv", "Conv2d", (channels, 9, 9), 1, "first")


@pytest.mark.parametrize("kind", ["conductance", "integrated_gradients", "deeplift"])
@pytest.mark.parametrize("as_modules", [True, False])
def test_contributions_add_up_to_the_change_of_the_score_if_all_values_pass_through_the_layer(
    kind: str, as_modules: bool
) -> None:
    network, inputs = seeded(Chain(as_modules)), images()
    total = score(network(inputs)) - score(network(torch.zeros_like(inputs)))
    torch.testing.assert_close(found(kind, network, conv(), inputs).sum(dim=1), total, rtol=0.02, atol=2e-3)


def test_deeplift_does_not_depend_on_how_activation_functions_are_written() -> None:
    one, other = seeded(Chain(True)), seeded(Chain(False))
    torch.testing.assert_close(one(images()), other(images()))
    torch.testing.assert_close(found("deeplift", one, conv(), images()), found("deeplift", other, conv(), images()))


def test_gradient_times_activation_equals_the_product_computed_by_autograd() -> None:
    network, inputs = seeded(Chain(False)), images()
    maps = network.conv(functional.relu(network.stem(inputs))).requires_grad_()
    behind = network.act1(network.third(network.pool(network.act1(maps))).relu())
    (gradient,) = torch.autograd.grad(score(network.head(behind.mean(dim=(2, 3)))).sum(), maps)
    by_hand = (maps * gradient).sum(dim=(2, 3)).detach().double()
    torch.testing.assert_close(found("gradient_x_activation", network, conv(), inputs), by_hand)


def test_ablation_is_the_difference_from_the_score_without_the_weights_of_the_channel() -> None:
    network, inputs = seeded(Chain(False)), images()
    by_kind = found("ablation", network, conv(), inputs)
    for channel in range(5):
        assert network.conv.bias is not None
        weight, bias = network.conv.weight.clone(), network.conv.bias.clone()
        without = seeded(Chain(False))
        weight[channel], bias[channel] = 0, 0
        without.conv.load_state_dict({"weight": weight, "bias": bias})
        torch.testing.assert_close(by_kind[:, channel], score(network(inputs)) - score(without(inputs)))


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_do_not_depend_on_the_batch_and_do_not_change_the_network(kind: str) -> None:
    network, inputs = seeded(resnet20(4)), images(3)
    layer = LayerInfo("layer2.1.conv1", "Conv2d", (32, 4, 4), 1, "first")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    together = found(kind, network, layer, inputs, n_steps=8)
    assert together.shape == (3, 32)
    assert together.dtype == torch.float64
    torch.testing.assert_close(found(kind, network, layer, inputs[:1], n_steps=8), together[:1], rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    with torch.inference_mode():
        network(inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_can_be_on_the_last_axis(kind: str) -> None:
    network = seeded(nn.Sequential(nn.Flatten(), nn.Linear(243, 6), nn.ReLU(), nn.Linear(6, 4)))
    layer = LayerInfo("1", "Linear", (6,), 1, "last")
    assert found(kind, network, layer, images(), n_steps=8).shape == (N_IMAGES, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_can_return_its_tensor_in_a_tuple(kind: str) -> None:
    network = seeded(Token())
    layer = LayerInfo("attention", "MultiheadAttention", (25, 8), 1, "last")
    tokens = torch.randn(N_IMAGES, 8, 5, 5, generator=torch.Generator().manual_seed(2))
    by_kind = found(kind, network, layer, tokens)
    # The layers behind are linear: the contribution of a channel is its activation times its weight, minus the same for
    # the zero input if the method compares with a baseline.
    means = [network.attention(*[each.flatten(2).transpose(1, 2)] * 3, need_weights=False)[0].mean(dim=1)
            for each in (tokens, torch.zeros_like(tokens))]  # fmt: skip
    is_difference = kind in ("conductance", "integrated_gradients", "deeplift")
    by_hand = (means[0] - means[1] if is_difference else means[0]) * network.head.weight[2]
    torch.testing.assert_close(by_kind, by_hand.double(), rtol=0.02, atol=2e-3)


def test_deeplift_rejects_a_network_that_cannot_be_traced() -> None:
    with pytest.raises(
        NetworkError,
        match=r"^the network must be traceable by torch\.fx for score=deeplift; got one that is not\. "
        r"Choose another ranker, for example score=conductance\.$",
    ):
        found("deeplift", seeded(Deciding()), conv(6), images())


def test_each_use_of_an_activation_function_gets_a_module_and_all_others_are_shared() -> None:
    network = seeded(Chain(False))
    separate = with_separate_activations(network, "conv")
    assert separate is not None
    assert sum(isinstance(module, nn.ReLU) for name, module in separate.named_modules() if "separate" in name) == 4
    torch.testing.assert_close(separate(images()), network(images()))
    assert separate.get_submodule("third").weight is network.third.weight


@pytest.mark.parametrize(
    ("module", "n_channels", "by_hand"),
    [
        (nn.Conv2d(3, 5, 2), 5, lambda module: module.weight[4].norm()),
        (nn.Conv2d(4, 6, 3, groups=2), 6, lambda module: module.weight[5].norm()),
        (nn.ConvTranspose2d(4, 3, 2), 3, lambda module: module.weight[:, 2].norm()),
        (nn.Linear(7, 2), 2, lambda module: module.weight[1].norm()),
        (nn.BatchNorm2d(4), 4, lambda module: module.weight[3].abs()),
    ],
)  # fmt: skip
def test_weight_norms_are_computed_from_the_weights_of_each_channel(
    module: nn.Module, n_channels: int, by_hand: Callable[[Any], torch.Tensor]
) -> None:
    norms = contributions.weight_norms(examined(nn.Sequential(module), LayerInfo("0", "", (n_channels,), 1, "first")))
    assert norms.shape == (n_channels,)
    assert norms[-1] == pytest.approx(float(by_hand(module).detach()))


def test_weight_norms_reject_a_layer_without_weights() -> None:
    with pytest.raises(
        NetworkError,
        match=r"^layer must have weights for each of its 4 channels for score=weight_norm; got a layer of type ReLU\. "
        r"Choose a convolution or a linear layer\.$",
    ):
        contributions.weight_norms(examined(nn.Sequential(nn.ReLU()), LayerInfo("0", "ReLU", (4,), 1, "first")))
