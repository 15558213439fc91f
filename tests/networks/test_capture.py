from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import vgg11

from pipeline.errors import NetworkError
from pipeline.networks.capture import capture


def n_hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_an_in_place_relu_cannot_overwrite_what_was_captured() -> None:
    torch.manual_seed(0)
    network = vgg11(weights=None).eval()
    assert network.features[1].inplace
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected = nn.functional.conv2d(images, network.features[0].weight, network.features[0].bias, padding=1)
        with capture(network, "features.0") as captured:
            network(images)
    output = captured.take()
    torch.testing.assert_close(output, expected)
    assert output.min() < 0


def test_no_hook_outlives_the_context_even_when_the_pass_fails() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with pytest.raises(RuntimeError), capture(network, "0"):
        assert n_hooks(network) == 1
        network(torch.zeros(1, 5, 8, 8))
    assert n_hooks(network) == 0


def test_the_capture_is_a_copy_that_needs_no_gradient() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with capture(network, "0") as captured:
        network(torch.ones(1, 1, 8, 8))
    assert not captured.take().requires_grad


def test_a_layer_that_runs_twice_or_never_is_refused() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(relu, nn.Conv2d(1, 2, 3), relu)
    with capture(network, "0") as captured:
        network(torch.ones(1, 1, 8, 8))
        with pytest.raises(NetworkError, match=r"^layer must run once in a forward pass; got 2 runs \(layer '0'\)"):
            captured.take()
        with pytest.raises(NetworkError, match=r"got 0 runs"):
            captured.take()
