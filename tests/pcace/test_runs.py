"""Finished runs of the command line in Python: as a table, and as rankings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pcace
from pipeline.artifacts import NetworkRanking
from pipeline.config import compose_settings
from pipeline.runner import run
from pipeline.whole_network import run_network
from tests.helpers.settings import SMALL

QUICK = (
    *(each for each in SMALL if not each.startswith("score.")), "score=pearson", "score.bootstrap=20",
    "ablate.when=never",
)  # fmt: skip
KNOWN = ["n_channels", "best_channels", "reliability", "n_significant", "share_significant", "folder"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a job of a sweep for another class, and a run of two layers."""
    folder = tmp_path_factory.mktemp("finished") / "outputs"
    settings = [f"paths.outputs={folder}", *QUICK]
    run(compose_settings(settings), folder / "runs" / "first")
    run(compose_settings([*settings, "class_name=3"]), folder / "sweeps" / "monday" / "0")
    several = [*settings, "layer=[conv1,conv2]", "ablate.budget_tflop=2"]
    run_network(compose_settings(several), folder / "runs" / "network")
    (folder / "runs" / "unfinished").mkdir()
    return folder


def test_runs_are_a_table(outputs: Path) -> None:
    table = pcace.runs(outputs)
    assert table.run.tolist() == ["runs/first", "sweeps/monday/0", "runs/network", "runs/network"]
    assert table.layer.tolist() == ["conv1", "conv1", "conv1", "conv2"]
    assert list(table) == ["run", "layer", "class_name", "target_class", "ablate.budget_tflop", *KNOWN]
    assert table["ablate.budget_tflop"].tolist() == [1, 1, 2, 2]  # of the run, not of each layer
    assert table.class_name.tolist() == ["8", "3", "8", "8"]
    for row in table.to_dict("records"):
        ranking = pd.read_csv(Path(row["folder"]) / "ranking.csv")
        assert row["best_channels"] == " ".join(map(str, ranking.channel[:5]))
        assert row["n_channels"] == len(ranking)
    layers = NetworkRanking.load(outputs / "runs" / "network").layers
    np.testing.assert_array_equal(table.reliability[2:], layers.reliability)
    assert table.reliability[0] == table.reliability[2]  # the same layer
    assert table.n_significant.isna().all()  # there is no permutation null


def test_a_run_of_one_layer_is_loaded(outputs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(outputs / "runs" / "first", tmp_path / "copy"))  # the results stay in the store
    settings = json.loads((folder / "settings.json").read_text())
    settings["visualize"] |= {"maximize": "always", "maximize_steps": 2, "n_maximized": 1}
    (folder / "settings.json").write_text(json.dumps(settings))
    ranking = pcace.load(folder)
    assert isinstance(ranking, pcace.Ranking)
    pd.testing.assert_frame_equal(ranking.to_frame(), pd.read_parquet(folder / "ranking.parquet"), check_exact=True)
    assert ranking.target == "class 8"
    assert isinstance(ranking.activations.maps, np.memmap)
    assert ranking._views.activation is not None  # the network was built again
    assert ranking._views.maximized is not None
    assert ranking._views.notes == ()
    saved = pcace.load(ranking.save(tmp_path / "saved"))
    assert isinstance(saved, pcace.Ranking)
    first, second = (each._pictures.seen([3])[0] for each in (ranking, saved))
    np.testing.assert_array_equal(first, second)


def test_a_run_of_several_layers_is_loaded(outputs: Path) -> None:
    found = [pcace.load(outputs / "runs" / "network"), pcace.load(outputs / "runs" / "network" / "layers" / "conv2")]
    network, layer = found
    assert isinstance(network, pcace.NetworkRanking)
    assert isinstance(layer, pcace.Ranking)
    assert list(network) == ["conv1", "conv2"]
    assert network["conv2"].channels == layer.channels
    assert "relu2" not in network


def test_folders_that_cannot_be_read_are_named(outputs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(outputs / "runs" / "first", moved / "runs" / "first")
    shutil.copytree(outputs / "store" / "rank", moved / "store" / "rank")
    (moved / "runs" / "first" / "settings.json").write_text(
        (moved / "runs" / "first" / "settings.json").read_text().replace(str(outputs), str(moved))
    )
    with pytest.raises(pcace.PipelineError) as caught:
        pcace.load(moved / "runs" / "first")
    assert str(caught.value) == (
        f"the results of a run must be in the store; got {moved / 'runs' / 'first'}, whose images are not in "
        f"{moved / 'store'}. Repeat the run."
    )
    (moved / "runs" / "first" / "artifacts.json").unlink()
    with pytest.raises(pcace.PipelineError) as caught:
        pcace.load(moved / "runs" / "first")
    assert str(caught.value) == (
        f"the folder of a run must have artifacts.json; got {moved / 'runs' / 'first'}, which an earlier version of "
        "pcace has written. Repeat the run: what is in the store is not computed again."
    )
    (moved / "runs" / "first" / "settings.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"^Runs that could not be read: 1\. The first is .*first \("):
        assert len(pcace.runs(moved)) == 0
    with pytest.raises(pcace.PipelineError) as caught:
        pcace.runs(tmp_path / "nowhere")
    assert str(caught.value) == (
        f"outputs must be the folder of the runs; got {tmp_path / 'nowhere'}, which does not exist. Make a run first."
    )
