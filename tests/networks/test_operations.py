"""The number of operations, against numbers that are computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.networks.ablation import Ablation
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.maximization import step_operations
from pipeline.networks.operations import PER_VALUE, counted_operations


def counted(network: nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        return counted_operations(lambda: network(images))[0]


def test_products_and_written_values_are_counted_and_views_are_not() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2, bias=False)).eval()
    convolution, linear = 2 * 3 * 9 * 8 * 36, 2 * 8 * 36 * 2
    expected = convolution + linear + PER_VALUE * (8 * 36 + 8 * 36 + 2)
    assert counted(network, torch.rand(1, 3, 8, 8)) == pytest.approx(expected, rel=0.005)
    assert counted(network, torch.rand(4, 3, 8, 8)) == pytest.approx(4 * expected, rel=0.005)


def test_attention_counts_the_same_however_it_is_computed() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval().requires_grad_(False)
    tokens = torch.rand(2, 10, 32)
    found = counted(layer, tokens)
    products = 2 * 2 * 10 * 32 * (3 * 32 + 32 + 64 + 64) + 2 * 2 * 2 * 10 * 10 * 32
    assert found > products
    assert torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        assert counted(layer, tokens) == found
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


class Branching(nn.Module):
    """A network with an operator of higher order."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = torch.cond(images.amax() > 2, torch.sin, torch.cos, (images,))
        return maps


def test_operators_of_higher_order_count_what_they_write() -> None:
    assert counted(Branching(), torch.rand(2, 1, 10, 10)) == pytest.approx(PER_VALUE * (200 + 2), rel=0.001)


def examined(network: nn.Module, layer: str, images: torch.Tensor) -> ExaminedNetwork:
    return ExaminedNetwork.of_module(network.eval(), layer, lambda outputs: outputs[:, 0].double(), images)


def test_the_part_behind_the_layer_is_counted_for_each_set_and_image() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 2))
    images = torch.rand(3, 3, 8, 8)
    first, second = 2 * 27 * 8 * 36, 2 * 72 * 8 * 16
    before, behind = Ablation(examined(network, "0", images), images).operations(images)
    assert before == pytest.approx(first + PER_VALUE * (8 * 36 + 3 * 64), rel=0.01)  # the images are copied
    assert second < behind - PER_VALUE * 8 * 36 < second + PER_VALUE * (5 * 8 * 36)  # the edit of the layer's output
    alone = step_operations(examined(network, "0", images), images)
    deeper = step_operations(examined(network, "1", images), images)
    assert deeper - alone == pytest.approx(2 * (second + PER_VALUE * 8 * 16), rel=0.01)
