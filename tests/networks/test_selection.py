from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.errors import NetworkError
from pipeline.networks.layout import NetworkLayout
from pipeline.networks.layout_pass import layout
from pipeline.networks.selection import select_layers
from tests.helpers.networks import Branching


@pytest.fixture(scope="module")
def found() -> NetworkLayout:
    return layout(Branching().eval(), torch.zeros(2, 1, 4, 4))


REPEATED = {
    "stem.1": "it is the batch normalisation of stem.0, whose channels have the same scores",
    "stem": "it is the batch normalisation of stem.0, whose channels have the same scores",
    "relu": "2 calls in one forward pass",
    "pair": "an output that is not one tensor with one row per image",
    "fc": "its outputs are the network's scores",
}


@pytest.mark.parametrize("text", ["all", "*", "stem*,left,right,relu,pair,f?"])
def test_a_pattern_selects_every_layer_that_can_be_ranked_once(found: NetworkLayout, text: str) -> None:
    selected = select_layers(found, text, without_scaled=True)
    assert [info.name for info in selected.layers] == ["stem.0", "left", "right"]
    assert selected.not_ranked == REPEATED


def test_a_batch_normalisation_is_selected_where_scores_depend_on_the_scale(found: NetworkLayout) -> None:
    selected = select_layers(found, "stem*", without_scaled=False)
    assert [info.name for info in selected.layers] == ["stem.0", "stem.1"]
    assert selected.not_ranked == {"stem": "it returns the output of stem.1"}


def test_layers_that_are_named_are_selected_whatever_they_repeat(found: NetworkLayout) -> None:
    selected = select_layers(found, "fc,stem.0,stem.1,relu", without_scaled=True)
    assert [info.name for info in selected.layers] == ["stem.0", "stem.1", "fc"]
    assert list(selected.not_ranked) == ["relu"]


def test_depth_is_the_share_of_elementary_modules_that_have_run(found: NetworkLayout) -> None:
    depths = {info.name: info.depth for info in found.layers}
    # stem.0, stem.1, relu, left, right, pair, relu again, fc: depth 0, 1/7, ..., 1; a block has that of its last module
    assert depths == pytest.approx(
        {"stem.0": 0, "stem.1": 1 / 7, "stem": 1 / 7, "left": 3 / 7, "right": 4 / 7, "pair": 5 / 7, "relu": 6 / 7,
         "fc": 1}
    )  # fmt: skip


def test_an_activation_in_place_is_another_layer_than_its_input() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Identity(), nn.Flatten(), nn.Linear(8, 2))
    selected = select_layers(layout(network.eval(), torch.zeros(2, 1, 4, 4)), "all", without_scaled=True)
    assert [info.name for info in selected.layers] == ["0", "1", "3"]
    assert selected.not_ranked["2"] == "it returns the output of 1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "left,up*",
            "layer must match layers of the network; got the pattern 'up*', which matches none. "
            "Nearest: left, right, fc. `pcace layers` lists all.",
        ),
        (
            "le?t,lefd",
            "layer must be one of the network's layers; got 'lefd'. Nearest: left. `pcace layers` lists all.",
        ),
        (
            "pair,relu",
            "layer must select a layer that can be ranked; got relu (2 calls in one forward pass), and 1 more. "
            "`pcace layers` lists the layers that can be ranked.",
        ),
    ],
)
def test_selections_without_a_layer_are_refused(found: NetworkLayout, text: str, message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        select_layers(found, text, without_scaled=True)
    assert str(caught.value) == message
