"""Both ways to ablate channels: in a cut network, and by a hook in passes through the whole network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from examples.cifar10_resnet20.network import resnet20
from pipeline.networks import ablation
from pipeline.networks.ablation import AblatedBatch, Ablation
from pipeline.networks.arrangement import ChannelAxis
from pipeline.networks.digits import digits_cnn
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.maps import as_maps
from pipeline.networks.targets import Score
from tests.helpers.networks import Deciding, Token

N_IMAGES = 5


class Overwriting(nn.Module):
    """Shortcuts that are changed in place, before and behind the layer, and an in-place ReLU after the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.stem(images))
        branch = self.relu(self.conv(maps))
        maps += branch
        maps += 0.5 * branch.sigmoid_()
        return self.head(maps.mean(dim=(2, 3)))


class Counting(nn.Module):
    """A network that uses the number of images behind the layer, as a trace that was made for one set has it."""

    times = 1

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        n_rows = images.shape[0] * self.times
        return self.head(self.conv(images).relu().mean(dim=(2, 3)).reshape(n_rows, 6 // self.times).reshape(-1, 6))


class CountingTwice(Counting):
    """It uses another number, so that the trace is wrong for several sets at once."""

    times = 2


def resnet18() -> nn.Module:
    from torchvision.models import resnet18 as build

    return build(weights=None)


CASES: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, ...], ChannelAxis, bool]] = {
    "digits": (digits_cnn, "conv2", (1, 8, 8), "first", True),
    "a linear layer": (digits_cnn, "classifier", (1, 8, 8), "first", True),
    "a layer inside a residual block": (resnet20, "layer2.1.conv1", (3, 32, 32), "first", True),
    "a residual block": (resnet20, "layer3.1", (3, 32, 32), "first", True),
    "a network of torchvision": (resnet18, "layer4.1.conv1", (3, 32, 32), "first", True),
    "a batch normalisation": (resnet18, "layer2.0.bn2", (3, 32, 32), "first", True),
    "a layer that returns a tuple": (Token, "attention", (8, 4, 4), "last", True),
    "operations in place": (Overwriting, "conv", (3, 8, 8), "first", True),
    "a network that cannot be traced": (Deciding, "conv", (3, 8, 8), "first", False),
    "a network that uses the number of images": (Counting, "conv", (3, 8, 8), "first", True),
    "a network with a wrong trace": (CountingTwice, "conv", (3, 8, 8), "first", False),
}


def prepared(name: str) -> tuple[nn.Module, str, torch.Tensor, ChannelAxis, bool]:
    build, layer, shape, channels, is_cut = CASES[name]
    torch.manual_seed(0)
    network = build().eval().requires_grad_(False)
    for module in network.modules():  # initially, all running variances are 1 and all running means 0
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network, layer, torch.rand(N_IMAGES, *shape), channels, is_cut


def examined(
    network: nn.Module, layer: str, channels: ChannelAxis, inputs: torch.Tensor, score: Score
) -> ExaminedNetwork:
    return ExaminedNetwork.of_module(network, layer, score, inputs, channels)


def by_hand(network: nn.Module, layer: str, inputs: torch.Tensor, change: Callable[[torch.Tensor], None]) -> Any:
    """Return the scores of one pass through the whole network, in which `change` alters the layer's output."""

    def edit(_module: nn.Module, _inputs: object, output: Any) -> Any:
        tensor = (output[0] if isinstance(output, tuple) else output).clone()
        change(tensor)
        return (tensor, None) if isinstance(output, tuple) else tensor

    handle = network.get_submodule(layer).register_forward_hook(edit)
    with torch.inference_mode():
        outputs = network(inputs)[:, 1]
    handle.remove()
    return outputs.double()


@pytest.mark.parametrize("name", CASES)
def test_both_ways_give_the_scores_of_one_whole_pass_for_each_set_of_channels(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, layer, inputs, channels, is_cut = prepared(name)
    score = lambda outputs: outputs[:, 1].double()  # noqa: E731
    ours = Ablation(examined(network, layer, channels, inputs, score), inputs)
    assert (ours.cut is not None) == is_cut
    recorded: list[torch.Tensor] = []
    by_hand(network, layer, inputs, lambda output: recorded.append(output.clone()))
    maps = as_maps(recorded[0], channels)
    n_channels = maps.shape[1]
    ablated = torch.eye(n_channels, dtype=torch.bool)[:5]
    ablated[0, -1] = True  # two channels in one set
    for fills in (torch.zeros(1, n_channels, 1, 1), torch.rand(1, n_channels, 1, 1), maps.roll(1, dims=0)):
        finished: list[int] = []
        found = ours.at(inputs).scores(ablated, fills, finished.append)
        assert sum(finished) == len(ablated)
        monkeypatch.setattr(ablation, "VALUES_AT_ONCE", 3 * maps.numel())  # in several passes
        again = ours.at(inputs).scores(ablated, fills)
        with monkeypatch.context() as patch:
            patch.setattr(ablation, "cut_at", lambda network, layer: None)
            whole = (
                Ablation(examined(network, layer, channels, inputs, score), inputs).at(inputs).scores(ablated, fills)
            )
        tolerance = 1e-5 * max(1.0, float(found.abs().max()))
        torch.testing.assert_close(found, again, rtol=0, atol=tolerance)
        torch.testing.assert_close(found, whole, rtol=0, atol=tolerance)
        for place in (0, len(ablated) - 1):

            def change(output: torch.Tensor, place: int = place, fills: torch.Tensor = fills) -> None:
                view = as_maps(output, channels)
                view[:, ablated[place]] = fills.expand_as(view)[:, ablated[place]]

            expected = by_hand(network, layer, inputs, change)
            torch.testing.assert_close(found[place], expected, rtol=0, atol=tolerance)


def test_ablating_no_channel_gives_the_original_scores_and_does_not_change_the_network() -> None:
    network, layer, inputs, channels, _ = prepared("operations in place")
    with torch.inference_mode():
        before = network(inputs)
    ours = Ablation(examined(network, layer, channels, inputs, lambda outputs: outputs[:, 0]), inputs)
    for _ in range(2):  # operations in place behind the layer do not change the values that are kept
        found = ours.at(inputs).scores(torch.zeros((3, 6), dtype=torch.bool), torch.zeros(1, 6, 1, 1))
        torch.testing.assert_close(found, before[:, 0].double().expand(3, -1), rtol=0, atol=1e-6)
    assert not network.get_submodule(layer)._forward_hooks
    with torch.inference_mode():
        assert torch.equal(network(inputs), before)


def test_the_sets_of_2000_channels_are_made_as_they_are_needed() -> None:
    n_channels, n_images = 2000, 4
    largest, n_sets = 0, 0

    def run(sets: torch.Tensor, fills: torch.Tensor) -> torch.Tensor:
        nonlocal largest, n_sets
        largest, n_sets = max(largest, sets.numel() * n_images), n_sets + len(sets)
        assert (sets.sum(dim=1) == 1).all()
        return sets.double().argmax(dim=1).repeat_interleave(n_images)[:, None]

    batch = AblatedBatch(lambda outputs: outputs[:, 0], run, n_images, n_images * n_channels)
    found = batch.scores_of_each(range(n_channels), torch.zeros(1, n_channels, 1, 1))
    assert torch.equal(found, torch.arange(n_channels).double()[:, None].expand(-1, n_images))
    assert n_sets == n_channels
    assert largest <= ablation.VALUES_AT_ONCE


@pytest.mark.parametrize("is_cut", [True, False])
def test_the_memory_of_ablation_does_not_grow_with_the_square_of_the_channels(
    monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    """Each tensor that is made has at most as many values as one pass may have, or as the results."""
    if not is_cut:
        monkeypatch.setattr(ablation, "cut_at", lambda network, layer: None)
    n_images, largest = 3, {}
    for n_channels in (500, 2000):
        network = nn.Sequential(nn.Conv2d(1, n_channels, 3), nn.Flatten(), nn.Linear(n_channels, 2)).eval()
        inputs = torch.rand(n_images, 1, 3, 3)
        examined_network = examined(network, "0", "first", inputs, lambda outputs: outputs[:, 1])
        batch = Ablation(examined_network, inputs).at(inputs)
        with Sizes() as sizes:  # type: ignore[no-untyped-call]
            batch.scores_of_each(range(n_channels), torch.zeros(1, n_channels, 1, 1))
        largest[n_channels] = sizes.largest
    assert largest[2000] <= ablation.VALUES_AT_ONCE
    assert largest[2000] < 2000**2 / 2


class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the largest number of values of a tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.largest = max(self.largest, found.numel())
        return found
