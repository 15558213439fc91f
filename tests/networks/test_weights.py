"""The norms of the weights of each channel, compared with computations by hand for each output channel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from pipeline.errors import NetworkError
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.layout import LayerInfo
from pipeline.networks.weights import check_weights_of_channels, weight_norms


class Standardised(nn.Conv2d):
    """A convolution that standardises its weights in every pass."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        return functional.conv2d(images, weight, self.bias)


class Transposed(nn.Module):
    """A linear layer whose weights have a row for each input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weight


def examined(layer: nn.Module, shape: tuple[int, ...]) -> tuple[ExaminedNetwork, torch.Tensor]:
    """Return a network of one layer, and inputs for it."""
    inputs = torch.randn(2, *shape)
    network = nn.Sequential(layer, nn.Flatten()).eval().requires_grad_(False)
    info = LayerInfo("0", type(layer).__name__, (layer(inputs).shape[1],), 1, "first")
    return ExaminedNetwork(network, info, lambda outputs: outputs[:, 0], torch.device("cpu")), inputs


def norms_by_impulses(layer: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    """Return the norm of the weights of each channel, from its response to every input that is 1 at one position.

    The central position of an output without strides and padding receives each weight once.
    """
    n_inputs = int(np.prod(shape))
    impulses = torch.eye(n_inputs).reshape(n_inputs, *shape)
    with torch.no_grad():
        responses = layer(impulses) - layer(torch.zeros(1, *shape))
    while responses.ndim > 2:
        responses = responses[..., responses.shape[-1] // 2]
    return responses.double().norm(dim=0).numpy()


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "a convolution": (lambda: nn.Conv2d(3, 5, 2), (3, 5, 5)),
    "in one dimension": (lambda: nn.Conv1d(4, 6, 3), (4, 7)),
    "in three dimensions": (lambda: nn.Conv3d(2, 3, 2), (2, 4, 4, 4)),
    "in groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (4, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 3, 2), (4, 5, 5)),
    "transposed, as many channels as inputs": (lambda: nn.ConvTranspose2d(4, 4, 3), (4, 5, 5)),
    "transposed in groups": (lambda: nn.ConvTranspose2d(8, 8, 2, groups=2), (8, 5, 5)),
    "transposed in groups, more channels": (lambda: nn.ConvTranspose1d(4, 8, 3, groups=4), (4, 7)),
    "transposed in three dimensions": (lambda: nn.ConvTranspose3d(4, 2, 2, groups=2), (4, 3, 3, 3)),
    "a linear layer": (lambda: nn.Linear(7, 4), (7,)),
    "as many features as inputs": (lambda: nn.Linear(6, 6), (6,)),
    "weights computed in the pass": (lambda: Standardised(3, 5, 2), (3, 5, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_norms_are_those_of_the_responses_to_each_input(name: str) -> None:
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    given, inputs = examined(build(), shape)
    norms = weight_norms(given, inputs)
    np.testing.assert_allclose(norms, norms_by_impulses(given.module, shape), rtol=1e-4)
    assert len(set(norms.round(5))) == len(norms)  # channels can be told apart


HOOKED: dict[str, Callable[[nn.Module], Any]] = {
    "weight_norm": weight_norm,
    "spectral_norm": spectral_norm,
    "pruning": partial(prune.ln_structured, name="weight", amount=0.5, n=2, dim=0),
    "parametrised weight_norm": parametrizations.weight_norm,
    "parametrised spectral_norm": parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", HOOKED)
def test_weights_that_a_hook_computes_are_those_of_the_parameters_that_were_loaded(name: str) -> None:
    torch.manual_seed(0)
    trained, fresh = (HOOKED[name](nn.Conv2d(3, 8, 3)) for _ in range(2))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(torch.arange(8, 0, -1.0).reshape(-1, *[1] * (parameter.ndim - 1)))
    fresh.load_state_dict(trained.state_dict())
    given, inputs = examined(fresh, (3, 5, 5))
    by_hand = norms_by_impulses(trained.eval(), (3, 5, 5))
    np.testing.assert_allclose(weight_norms(given, inputs), by_hand, rtol=1e-4)


def test_norms_of_a_normalisation_are_the_magnitudes_of_its_weights() -> None:
    layer = nn.BatchNorm2d(4)
    nn.init.normal_(layer.weight)
    given, inputs = examined(layer, (4, 5, 5))
    np.testing.assert_allclose(weight_norms(given, inputs), layer.weight.abs().numpy())


@pytest.mark.parametrize(
    ("layer", "shape", "n_channels", "kind"),
    [
        (nn.ReLU(), (4, 5, 5), 4, "ReLU"),
        (Transposed(), (6,), 6, "Transposed"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), (4, 5, 5), 4, "Sequential"),
    ],
)
def test_layers_without_a_row_of_weights_for_each_channel_are_rejected(
    layer: nn.Module, shape: tuple[int, ...], n_channels: int, kind: str
) -> None:
    given, inputs = examined(layer, shape)
    with pytest.raises(NetworkError) as refused:
        check_weights_of_channels(given.network, given.layer, inputs)
    assert str(refused.value) == (
        f"layer must have weights for each of its {n_channels} channels for score=weight_norm; "
        f"got a layer of type {kind}. Choose a convolution or a linear layer."
    )
