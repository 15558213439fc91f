"""The contributions of channels, compared with independent computations: sums, gradients, and ablation by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from examples.cifar10_resnet20.network import resnet20
from pipeline.errors import NetworkError
from pipeline.networks import contributions
from pipeline.networks.conductance import conductance
from pipeline.networks.contributed import Contributed, Contributions
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.heads import exposed_heads
from pipeline.networks.layout import LayerInfo
from pipeline.networks.layout_pass import layout
from pipeline.networks.observed import compatible
from pipeline.rankers import RANKERS
from tests.helpers.networks import Deciding, Frozen, Token, only

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
    return contributed(kind, network, layer, inputs, n_steps).channels


def contributed(
    kind: str, network: nn.Module, layer: LayerInfo, inputs: torch.Tensor, n_steps: int = 100
) -> Contributed:
    given = examined(network, layer)
    by_kind: dict[str, Callable[[], Contributions]] = {
        "gradient_x_activation": lambda: only(contributions.gradient_x_activation([given])),
        "conductance": lambda: only(conductance([given], n_steps)),
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


class Blocks(nn.Module):
    """Transformer blocks; if a branch in the first one depends on the activations, it is traced as one operation."""

    def __init__(self, is_branching: bool) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 8, 3, 3), Block(is_branching), Block(False)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.second(self.first(self.stem(images).flatten(2).transpose(1, 2)))
        return self.head(self.norm(tokens).mean(dim=1))


class Block(nn.Module):
    """Attention, a product and a sum that works in place."""

    def __init__(self, is_branching: bool) -> None:
        super().__init__()
        self.is_branching = is_branching
        self.attention, self.gate = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.is_branching and tokens.sum() > 1e9:
            return tokens
        added = self.gate(tokens).sigmoid() * self.attention(tokens, tokens, tokens, need_weights=False)[0]
        added += tokens
        return added + added.relu() * added.sigmoid()


def of_layers(kind: str, layers: Sequence[ExaminedNetwork], inputs: torch.Tensor) -> list[Contributed]:
    if kind == "conductance":
        return conductance(layers, 4)(inputs)
    return contributions.gradient_x_activation(layers)(inputs)


# A block that is traced as one operation has passes of its own (5), and so have layers that cannot be traced (5 + 9).
@pytest.mark.parametrize(
    ("kind", "make", "n_passes"),
    [
        ("gradient_x_activation", lambda: resnet20(4), 1),
        ("gradient_x_activation", lambda: Blocks(True), 1),
        ("conductance", lambda: resnet20(4), 5),
        ("conductance", lambda: Blocks(False), 5),
        ("conductance", lambda: Blocks(True), 19),
    ],
)
def test_contributions_in_several_layers_are_the_same_to_the_byte_from_one_backward_pass(
    kind: str, make: Callable[[], nn.Module], n_passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, inputs, passes, gradients = seeded(make()), images(3), list[int](), torch.autograd.grad

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(1)
        return gradients(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    with exposed_heads(network):
        infos = layout(network, inputs).rankable()
        if len(infos) > 20:
            infos = infos[::5]
        assert len(infos) > 6
        for group in compatible(network, infos):
            layers = [examined(network, info) for info in group]
            passes.clear()
            together = of_layers(kind, layers, inputs)
            if len(layers) > 1:
                assert len(passes) == n_passes
            for one, layer in zip(together, layers, strict=True):
                (alone,) = of_layers(kind, [layer], inputs)
                assert torch.equal(one.channels, alone.channels)
                assert (one.sums is None) == (alone.sums is None) == (kind == "gradient_x_activation")
                if one.sums is not None and alone.sums is not None:
                    for name, value in vars(one.sums).items():
                        assert torch.equal(value, getattr(alone.sums, name))


@pytest.mark.parametrize("kind", ["conductance", "integrated_gradients", "deeplift"])
def test_the_sums_of_a_complete_method_include_what_bypasses_the_layer(kind: str) -> None:
    network, inputs = seeded(resnet20(4)), images(3)
    layer = LayerInfo("layer2.1.conv1", "Conv2d", (32, 4, 4), 1, "first")
    sums = contributed(kind, network, layer, inputs).sums
    assert sums is not None
    with torch.no_grad():
        if kind == "integrated_gradients":  # the shortcut keeps its values
            change = score(network(inputs)) - score(without_layer(network, layer.name, inputs))
        else:
            change = score(network(inputs)) - score(network(torch.zeros_like(inputs)))
    torch.testing.assert_close(sums.change, change)
    torch.testing.assert_close(sums.total, change, rtol=0.03, atol=0.03 * float(change.abs().max()))
    channels = found(kind, network, layer, inputs).sum(dim=1)
    is_whole = torch.allclose(channels, sums.total, rtol=1e-3)
    assert is_whole == (kind == "integrated_gradients")


def test_a_value_that_an_operation_uses_twice_bypasses_the_layer_twice() -> None:
    class Dense(Chain):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.stem(images).tanh()
            joined = torch.cat([maps, self.conv(maps), maps], dim=1).tanh()
            return torch.cat([joined.mean(dim=(2, 3)), joined.amax(dim=(2, 3))], dim=1)

    network, inputs = seeded(Dense(True)), images()
    sums = contributed("conductance", network, conv(), inputs).sums
    assert sums is not None
    torch.testing.assert_close(sums.change, score(network(inputs)) - score(network(torch.zeros_like(inputs))))
    torch.testing.assert_close(sums.total, sums.change, rtol=0.01, atol=1e-4)


def test_a_graph_that_does_not_fit_into_the_memory_is_not_mistaken_for_a_network_that_cannot_be_traced() -> None:
    """The contributions would have no sums with what bypasses the layer, without a word."""
    network, inputs = seeded(Chain(True)), images()
    third = network.third.forward

    def limited(maps: torch.Tensor) -> torch.Tensor:
        if len(maps) > len(inputs):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return third(maps)

    network.third.forward = limited  # type: ignore[assignment, method-assign]
    with pytest.raises(torch.OutOfMemoryError):
        contributed("conductance", network, conv(), inputs)


def without_layer(network: nn.Module, layer: str, inputs: torch.Tensor) -> torch.Tensor:
    """Return the outputs with the layer's activations for the zero input, and all others those of the inputs."""
    recorded: list[torch.Tensor] = []
    module = network.get_submodule(layer)
    handle = module.register_forward_hook(lambda _module, _inputs, output: recorded.append(output.clone()))
    network(torch.zeros_like(inputs))
    handle.remove()
    handle = module.register_forward_hook(lambda _module, _inputs, _output: recorded[0])
    outputs: torch.Tensor = network(inputs)
    handle.remove()
    return outputs


def test_the_error_of_completeness_decreases_with_more_steps_also_if_the_network_cannot_be_traced() -> None:
    class Curved(Deciding):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images.sigmoid() - 0.5).tanh() * 3

    network, layer = seeded(Curved()), LayerInfo("conv", "Conv2d", (6, 7, 7), 1, "first")
    errors = []
    for n_steps in (2, 20, 200):
        sums = contributed("conductance", network, layer, images(), n_steps).sums
        assert sums is not None
        assert len(sums.total) == 2
        errors.append(float((sums.total - sums.change).abs().sum()))
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("as_modules", [True, False])
def test_conductance_converges_to_that_of_captum(as_modules: bool) -> None:
    from captum.attr import LayerConductance

    network, inputs = seeded(Chain(as_modules)), images()
    attributions = LayerConductance(network, network.conv).attribute(
        inputs.requires_grad_(), target=2, n_steps=1000, internal_batch_size=100
    )
    by_captum = attributions.detach().sum(dim=(2, 3)).double()
    torch.testing.assert_close(found("conductance", network, conv(), images(), 200), by_captum, rtol=0.02, atol=5e-3)


@pytest.mark.parametrize("kind", ["gradient_x_activation", "conductance", "integrated_gradients"])
def test_layers_without_a_gradient_are_rejected(kind: str) -> None:
    check, layer = RANKERS[kind].check, LayerInfo("conv", "Conv2d", (6, 7, 7), 1, "first")
    with pytest.raises(
        NetworkError,
        match=r"^gradients must pass from the network's outputs to the layer; got none \(layer 'conv'\)\. Remove "
        r"torch\.no_grad and detach from the network, or choose a ranker that needs no gradients, for example "
        r"score=ablation\.$",
    ):
        check(Frozen(), layer, images(2))
    check(Frozen(is_frozen=False), layer, images(2))


def test_deeplift_does_not_use_the_gradients_of_the_network() -> None:
    layer = LayerInfo("conv", "Conv2d", (6, 7, 7), 1, "first")
    one, other = (found("deeplift", seeded(Frozen(is_frozen=frozen)), layer, images()) for frozen in (True, False))
    assert float(one.abs().min()) > 0
    torch.testing.assert_close(one, other)


def test_deeplift_rejects_a_network_that_cannot_be_traced() -> None:
    with pytest.raises(
        NetworkError,
        match=r"^the network must be traceable by torch\.fx for score=deeplift; got one that is not\. "
        r"Choose another ranker, for example score=conductance\.$",
    ):
        found("deeplift", seeded(Deciding()), conv(6), images())
