"""DeepLIFT's rules: contributions that sum to the change of the score, for networks with every kind of operation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import NetworkError
from pipeline.networks import contributions, rescale
from pipeline.networks.contributed import Contributed
from pipeline.networks.deeplift import _FUNCTIONS, _MODULES
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.targets import Score, score_of
from pipeline.networks.tracing import cut_at
from pipeline.settings import ClassTarget

Operation = Callable[[torch.Tensor], torch.Tensor]


class Around(nn.Module):
    """A network with an operation behind its layer `conv`, on maps of 8 channels of 9 x 9."""

    def __init__(self, operation: nn.Module | Operation) -> None:
        super().__init__()
        self.conv, self.operation, self.third = nn.Conv2d(3, 8, 3, padding=1), operation, nn.LazyConv2d(7, 1)
        self.head = nn.Linear(7, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.operation(self.conv(images))
        return self.head(self.third(maps).relu().mean(dim=(2, 3)))


class Tokens(nn.Module):
    """A block of a vision transformer on 16 tokens, behind a layer `embed`, with attention of three kinds."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed, self.norm, self.kind = nn.Linear(27, 12), nn.LayerNorm(12), kind
        self.attention = nn.MultiheadAttention(12, 3, batch_first=kind != "sequence first")
        self.qkv, self.head = nn.Linear(12, 36), nn.Linear(12, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = images.unfold(2, 3, 3).unfold(3, 3, 3).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = self.embed(patches)
        return self.head((tokens + self.attended(self.norm(tokens))).mean(dim=1))

    def attended(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.kind == "module":
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]
        if self.kind == "sequence first":
            sequence = tokens.transpose(0, 1)
            return self.attention(sequence, sequence, sequence, need_weights=False)[0].transpose(0, 1)
        query, key, value = self.qkv(tokens).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.kind == "function":
            found = functional.scaled_dot_product_attention(query, key, value)
        else:
            found = (query @ key.transpose(-2, -1) * 0.5).softmax(dim=-1) @ value
        return found.transpose(1, 2).flatten(2)


def squeezed(maps: torch.Tensor) -> torch.Tensor:
    """Return what a squeeze-and-excitation block without weights returns."""
    return maps * functional.adaptive_avg_pool2d(maps, 1).sigmoid()


def overwritten(maps: torch.Tensor) -> torch.Tensor:
    found = functional.relu_(maps - 0.1)
    found += 0.5 * found.tanh()
    found *= 0.7
    return found.clamp_(max=1.0)


MODULES: dict[str, nn.Module] = {
    **{kind.__name__: kind() for kind in _MODULES if kind is not nn.Threshold},  # type: ignore[call-arg]
    "Threshold": nn.Threshold(0.2, -0.3),
    "MaxPool2d, overlapping": nn.MaxPool2d(3, 2, 1),
    "AdaptiveMaxPool2d": nn.AdaptiveMaxPool2d(4),
    "Softmax": nn.Softmax(1),
    "LogSoftmax": nn.LogSoftmax(1),
    "GroupNorm": nn.GroupNorm(4, 8),
    "LayerNorm": nn.LayerNorm([9, 9]),
    "GLU": nn.GLU(1),
    "Dropout": nn.Dropout(0.5),
}
FUNCTIONS: dict[str, Operation] = {
    "functional.relu6": functional.relu6,
    "functional.hardswish, in place": lambda maps: functional.hardswish(maps, inplace=True),
    "functional.silu": functional.silu,
    "functional.gelu of tanh": lambda maps: functional.gelu(maps, approximate="tanh"),
    "functional.hardtanh": lambda maps: functional.hardtanh(maps, -0.2, 0.4),
    "functional.leaky_relu": lambda maps: functional.leaky_relu(maps, negative_slope=0.3),
    "functional.prelu": lambda maps: functional.prelu(maps, torch.full((8,), 0.2)),
    "torch.clamp": lambda maps: torch.clamp(maps, min=-0.1),
    "a method": lambda maps: maps.clamp(max=0.3),
    "a power": lambda maps: maps**2 + maps.pow(3),
    "a product with itself": lambda maps: maps * maps,
    "swish by hand": lambda maps: maps * torch.sigmoid(maps),
    "squeeze and excitation": squeezed,
    "a quotient": lambda maps: maps / (1 + maps.abs()),
    "a constant divided by maps": lambda maps: 1 / (2 + maps.abs()),
    "a normalisation by hand": lambda maps: maps / (1 + maps.square().mean(1, keepdim=True)).sqrt(),
    "functional.layer_norm": lambda maps: functional.layer_norm(maps.permute(0, 2, 3, 1), [8]).permute(0, 3, 1, 2),
    "functional.max_pool2d": lambda maps: functional.max_pool2d(maps, 3, stride=1),
    "gates of channels": lambda maps: maps[:, :4] * maps[:, 4:].sigmoid(),
    "in place": overwritten,
}  # fmt: skip


def examined(network: nn.Module, layer: str, score: Score | None = None) -> ExaminedNetwork:
    torch.manual_seed(0)
    with torch.no_grad():
        network.eval()(images())
    network.requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
    given = score or (lambda outputs: outputs.double()[:, 2])
    return ExaminedNetwork.of_module(network, layer, given, images())


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 9, 9, generator=torch.Generator().manual_seed(1))


def check_complete(given: ExaminedNetwork, found: Contributed) -> None:
    """Check that the contributions at a layer that all values pass sum to the change of the score, by plain passes."""
    with torch.no_grad():
        change = given.score(given.network(images())) - given.score(given.network(torch.zeros_like(images())))
    assert float(change.abs().max()) > 1e-3
    torch.testing.assert_close(found.channels.sum(dim=1), change, rtol=1e-3, atol=1e-4 * float(change.abs().max()))


@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_contributions_sum_to_the_change_of_the_score_for_every_operation_with_a_rule(name: str) -> None:
    given = examined(Around(MODULES[name] if name in MODULES else FUNCTIONS[name]), "conv")
    check_complete(given, contributions.deeplift(given)(images()))


@pytest.mark.parametrize("kind", ["module", "sequence first", "function", "by hand"])
def test_contributions_sum_to_the_change_of_the_score_through_attention(kind: str) -> None:
    given = examined(Tokens(kind), "embed")
    check_complete(given, contributions.deeplift(given)(images()))


@pytest.mark.parametrize("score", ["probability", "margin"])
def test_scores_that_are_not_linear_in_the_outputs_are_complete(score: str) -> None:
    target = ClassTarget(kind="class", score=score)  # type: ignore[arg-type]
    given = examined(Around(nn.SiLU()), "conv", score_of(target, 2))
    check_complete(given, contributions.deeplift(given)(images()))


@pytest.mark.parametrize("name", ["ReLU", "ELU", "Sigmoid", "MaxPool2d"])
def test_contributions_equal_those_of_captum_where_it_has_a_rule(name: str) -> None:
    from captum.attr import LayerDeepLift

    operation = nn.MaxPool2d(2) if name == "MaxPool2d" else MODULES[name]
    network = nn.Sequential(nn.Conv2d(3, 8, 3), operation, nn.Conv2d(8, 5, 3), nn.Flatten(), nn.LazyLinear(4))
    given = examined(network, "0")
    attributions = LayerDeepLift(network, network[0]).attribute(images().requires_grad_(), target=2)
    assert isinstance(attributions, torch.Tensor)
    by_captum = attributions.sum(dim=(2, 3)).double().detach()
    torch.testing.assert_close(contributions.deeplift(given)(images()).channels, by_captum, rtol=1e-4, atol=1e-6)


def test_the_multiplier_of_an_elementwise_function_is_the_quotient_of_the_differences() -> None:
    values = torch.tensor([[2.0, -1.0, 7.0, 0.5], [-1.0, -3.0, 5.0, 0.5]], requires_grad=True)
    found = rescale.elementwise(torch.relu, values)
    found[0].sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(found, values.relu())
    assert values.grad is not None
    # 2 / 3, no change, the slope 1, and the derivative where the values are equal.
    torch.testing.assert_close(values.grad[0], torch.tensor([2 / 3, 0.0, 1.0, 1.0]))


def test_each_factor_of_a_product_is_multiplied_by_the_mean_of_the_other() -> None:
    first = torch.tensor([[2.0], [1.0]], requires_grad=True)
    second = torch.tensor([[5.0], [-1.0]], requires_grad=True)
    found = rescale.product(torch.mul, first, second)
    found[0].sum().backward()  # type: ignore[no-untyped-call]
    assert first.grad is not None
    assert second.grad is not None
    shares = float(first.grad[0] * (2 - 1)), float(second.grad[0] * (5 + 1))
    assert shares == (2.0, 9.0)  # of 2 * 5 - 1 * -1
    assert sum(shares) == float((found[0] - found[1]).detach())


def test_the_names_of_elementwise_functions_are_functions_of_torch() -> None:
    assert all(hasattr(functional, name) or hasattr(torch, name) for name in _FUNCTIONS)


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (nn.LocalResponseNorm(2), "LocalResponseNorm"),
        (nn.InstanceNorm2d(8), "InstanceNorm2d"),
        (nn.Softmax2d(), "Softmax2d"),
        (functional.normalize, "normalize"),
        (lambda maps: maps / maps.norm(dim=1, keepdim=True), "norm"),
        (lambda maps: maps + maps.detach(), "detach"),
        (lambda maps: torch.maximum(maps, maps.flip(1)), "maximum"),
    ],
)
def test_operations_without_a_rule_are_rejected_before_anything_is_computed(
    operation: nn.Module | Operation, name: str
) -> None:
    given = examined(Around(operation), "conv")
    with pytest.raises(NetworkError) as refused:
        contributions.check_rules(given.network, given.layer, images())
    assert str(refused.value) == (
        f"every operation behind the layer must have a rule for score=deeplift; got {name}. "
        "Choose another ranker, for example score=integrated_gradients."
    )
    assert cut_at(given.network, "third") is not None  # they may be before the layer
    contributions.check_rules(given.network, ExaminedNetwork.of_module(
        given.network, "third", given.score, images()
    ).layer, images())  # fmt: skip
