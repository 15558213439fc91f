"""Networks whose outputs are drawn at random or depend on the batch, and networks that only look like them."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from examples.cifar10_resnet20.network import resnet20
from pipeline.errors import NetworkError
from pipeline.networks.ablation import Ablation
from pipeline.networks.consistency import _difference, check_consistent
from pipeline.networks.examined import ExaminedNetwork


class Applying(nn.Module):
    """A network that applies a function to the maps of its layer `conv`."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.head, self.change = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), change

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.change(self.conv(images).relu()).mean(dim=(2, 3)))


class Squeezing(Applying):
    """A network that returns no axis of images for a single image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).squeeze()


class Overriding(nn.BatchNorm2d):
    """A batch normalisation that stays in training mode."""

    def train(self, mode: bool = True) -> Overriding:
        super().train(True)
        return self


def rarely_flipped(maps: torch.Tensor) -> torch.Tensor:
    return maps.flip(0) * 2 if random.random() < 0.5 else maps


def attention(maps: torch.Tensor) -> torch.Tensor:
    features = maps.sum(dim=(2, 3))
    return torch.einsum("nm,mchw->nchw", (features @ features.T).softmax(dim=1), maps)


RANDOM: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "dropout": lambda maps: functional.dropout(maps, 0.5),
    "dropout of channels": lambda maps: functional.dropout2d(maps, 0.2),
    "noise of NumPy": lambda maps: maps + float(np.random.rand()),  # noqa: NPY002
    "an augmentation of every other batch": rarely_flipped,
}

BY_BATCH: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batch norm without statistics": (
        lambda: Applying(nn.BatchNorm2d(6, track_running_stats=False)), " (change)"
    ),
    "batch norm in training mode": (lambda: Applying(Overriding(6)), " (change)"),
    "batch norm as a function": (
        lambda: Applying(lambda maps: functional.batch_norm(maps, None, None, training=True)), ""
    ),
    "by hand": (lambda: Applying(lambda maps: maps / maps.amax(dim=(0, 2, 3), keepdim=True)), ""),
    "attention over the batch": (lambda: Applying(attention), ""),
    "in a network that does not accept single images": (
        lambda: Squeezing(nn.BatchNorm2d(6, track_running_stats=False)), " (change)"
    ),
}  # fmt: skip


def sample(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", RANDOM)
def test_outputs_that_are_drawn_at_random_are_rejected(name: str) -> None:
    torch.manual_seed(0)
    random.seed(0)
    with pytest.raises(
        NetworkError,
        match=r"^the network must give an image the same outputs in every pass; got outputs that differ by \S+ % "
        r"between two passes over the same images\. Switch off dropout and random augmentation in evaluation mode, "
        r"e\.g\. functional\.dropout\(x, p, self\.training\)\.$",
    ):
        check_consistent(Applying(RANDOM[name]).eval(), ["conv"], sample())


@pytest.mark.parametrize("name", BY_BATCH)
def test_outputs_that_depend_on_the_batch_are_rejected(name: str) -> None:
    build, cause = BY_BATCH[name]
    torch.manual_seed(0)
    network = build().eval()
    with pytest.raises(NetworkError) as refused:
        check_consistent(network, ["conv"], sample())
    message = str(refused.value)
    before, after = message.split(" %")
    assert before.startswith(
        "the network must compute an image's outputs independently of the other images in the batch; got outputs that "
        "differ by "
    )
    assert after == (
        f" between single images and a batch{cause}. Use batch normalisation in evaluation mode with running "
        "statistics, or normalise each image by itself."
    )


@pytest.mark.parametrize("name", ["batch norm without statistics", "by hand"])
def test_the_ablation_of_channels_does_not_take_passes_of_a_batch_for_the_truth(name: str) -> None:
    torch.manual_seed(0)
    network = BY_BATCH[name][0]().eval()
    examined = ExaminedNetwork.of_module(network, "conv", lambda outputs: outputs[:, 1], sample())
    with pytest.raises(NetworkError, match=r"^the network must compute an image's outputs independently of the other "):
        Ablation(examined, sample())


CONSISTENT: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: resnet20(4),
    "dropout in evaluation mode": lambda: Applying(nn.Dropout(0.5)),
    "instance norm": lambda: Applying(nn.InstanceNorm2d(6)),
    "squeezed": lambda: Squeezing(nn.Identity()),
    "random numbers without effect": lambda: Applying(lambda maps: maps + 0 * torch.rand_like(maps)),
    "not finite": lambda: Applying(lambda maps: maps.log()),
    "bfloat16": lambda: Applying(nn.Identity()).bfloat16(),
}


@pytest.mark.parametrize("name", CONSISTENT)
def test_other_networks_are_accepted_and_the_generators_are_as_before(name: str) -> None:
    torch.manual_seed(0)
    network = CONSISTENT[name]().eval()
    layer = "layer1" if name == "residual" else "conv"
    before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=True)  # noqa: NPY002
    check_consistent(network, [layer], sample().to(next(network.parameters()).dtype))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(np.random.get_state()) == str(before[2])  # noqa: NPY002
    assert not network.get_submodule(layer)._forward_hooks


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.25), ([1.0, NAN, 2.0], [1.0, NAN, 2.5], 0.25), ([INF, 1.0], [INF, 1.0], 0),
        ([INF, -4.0], [2.0, -3.0], 0.25), ([3e38], [-3e38], 1), ([NAN], [1.0], 0), ([], [], 0), ([0.0], [1e-3], 1),
    ],
)  # fmt: skip
def test_the_difference_is_that_of_the_finite_values(one: list[float], other: list[float], difference: float) -> None:
    assert _difference([torch.tensor(one)], [torch.tensor(other)]) == pytest.approx(difference)
