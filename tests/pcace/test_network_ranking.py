"""`pcace.rank` for several layers: the numbers of the pipeline, and layers that cannot be ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import pcace
from pipeline.artifacts import ImageSet, NetworkRanking
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.load import load
from pipeline.resolve import resolve
from pipeline.runner import LAYER_STAGES, Execution, store_of
from tests.helpers.networks import Branching
from tests.helpers.processes import rank_network
from tests.helpers.settings import Compose

OPTIONS: dict[str, Any] = {"bootstrap": 20, "permutations": 20, "n_jobs": 1, "progress": False}


def test_the_tables_of_a_network_are_those_of_the_pipeline(tmp_path: Path, compose: Compose) -> None:
    overrides = ("layer=[conv1,relu*]", "n_images=40", "score.bootstrap=20", "score.permutations=20")
    settings = compose(f"paths.outputs={tmp_path}", *overrides)
    rank_network(settings, tmp_path / "run")
    expected = NetworkRanking.load(tmp_path / "run")
    single = resolve(compose(f"paths.outputs={tmp_path}", *overrides, "layer=relu2"))
    with store_of(single) as store:
        execution = Execution(single, store)
        execution.obtain(LAYER_STAGES[0])
        images = NetworkRequest.of(single).inputs(execution.artifacts[ImageSet]).read(slice(None))
        execution.obtain(LAYER_STAGES[4])
        alone = pd.read_csv(execution.artifacts.folders[LAYER_STAGES[4].artifact] / "ranking.csv")
    network = load(single.model, single.seed)
    found = pcace.rank(
        network, images, ("conv1", network.get_submodule("relu1"), "relu*"), single.target_class, n_components=1,
        store=tmp_path / "kept", settings={"ablate.when": "never"}, **OPTIONS,
    )  # fmt: skip
    assert isinstance(found, pcace.NetworkRanking)
    pd.testing.assert_frame_equal(found.to_frame(), expected.channels, check_exact=True)
    pd.testing.assert_frame_equal(found.layers, expected.layers, check_exact=True)
    assert list(found) == ["conv1", "relu1", "relu2", "relu3"]
    assert found["relu2"].channels == alone.channel.tolist()
    assert found.sentences[0].partition(" class ")[0] == expected.sentences[0].partition(" class ")[0]
    saved = found.save(tmp_path / "saved")
    assert (saved / "network.csv").read_bytes() == (tmp_path / "run" / "network.csv").read_bytes()
    assert pcace.load(saved / "layers" / "relu3").to_frame().channel.tolist() == found["relu3"].channels
    assert found.sentences[0] in str(found)
    assert found.layers.layer.iloc[0] in found._repr_html_()


def test_layers_that_cannot_be_ranked_are_listed_and_the_others_are_ranked() -> None:
    torch.manual_seed(0)
    network = Branching()
    nn.init.zeros_(network.right.weight)
    found = pcace.rank(network, torch.rand(40, 1, 4, 4), "*", 1, n_components=2, **OPTIONS)
    assert list(found) == ["stem.0", "left"]
    reasons = dict(found.not_ranked.to_numpy().tolist())
    assert reasons["right"] == (
        "layer must have a channel that varies over the images; got 6 dead channels (layer 'right'). Choose another "
        "layer."
    )
    assert reasons["relu"] == "2 calls in one forward pass"
    assert set(found.to_frame().layer) == {"stem.0", "left"}
    with pytest.raises(KeyError):
        found["right"]


@pytest.mark.parametrize("ranker", ["pearson", "gradient_x_activation"])
def test_other_rankers_rank_several_layers(ranker: str) -> None:
    torch.manual_seed(0)
    found = pcace.rank(Branching(), torch.rand(40, 1, 4, 4), ["left", "right"], 1, ranker=ranker, progress=False)
    table = found.to_frame()
    assert table.score.is_monotonic_decreasing
    assert table.q.isna().all()
    assert len(table) == 10
    assert ("different scales" in found.sentences[-1]) == (ranker == "gradient_x_activation")


def test_layers_inside_of_a_transformer_of_pytorch_have_the_maps_of_single_layers() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    network = nn.Sequential(nn.Flatten(1, 2), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(128, 3)).eval()
    images = torch.rand(30, 1, 16, 8)
    layers = ["1.layers.0.linear1", "1.layers.1.linear1", "1.layers.1"]
    options = {**OPTIONS, "n_components": 1, "bootstrap": 0, "permutations": 0, "channels": "last"}
    several = pcace.rank(network, images, layers, 1, **options)
    for name in several:
        alone = pcace.rank(network, images, name, 1, **options)
        assert several[name].activations.maps.tobytes() == alone.activations.maps.tobytes()
        assert several[name].activations.class_score.tobytes() == alone.activations.class_score.tobytes()
