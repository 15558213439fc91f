from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import vgg11

from pipeline.errors import NetworkError
from pipeline.networks.capture import capture


def n_hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_an_in_place_relu_does_not_overwrite_the_captured_output() -> None:
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


def test_the_hook_is_removed_if_the_forward_pass_fails() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    with pytest.raises(RuntimeError), capture(network, "0"):
        assert n_hooks(network) == 1
        network(torch.zeros(1, 5, 8, 8))
    assert n_hooks(network) == 0


def test_the_captured_output_requires_a_gradient_only_on_request() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    for keep_graph in (False, True):
        with capture(network, "0", keep_graph=keep_graph) as captured:
            network(torch.ones(1, 1, 8, 8))
        assert captured.take().requires_grad == keep_graph


def test_a_layer_that_runs_twice_or_never_is_rejected() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(relu, nn.Conv2d(1, 2, 3), relu)
    with capture(network, "0") as captured:
        network(torch.ones(1, 1, 8, 8))
        for n_runs in (2, 0):  # the second time, no forward pass has been made since
            with pytest.raises(NetworkError) as caught:
                captured.take()
            assert str(caught.value) == (
                f"layer must run once in a forward pass; got {n_runs} runs (layer '0'). "
                "Choose another layer: `pcace layers` lists the layers that can be ranked."
            )


def test_a_layer_that_returns_several_tensors_is_rejected() -> None:
    network = nn.Sequential(nn.LSTM(3, 2))
    with pytest.raises(NetworkError) as caught, capture(network, "0"):
        network(torch.zeros(4, 3))
    assert str(caught.value) == (
        "layer must return one tensor; got tuple (layer '0'). "
        "Choose another layer: `pcace layers` lists the layers that can be ranked."
    )
    assert n_hooks(network) == 0
