"""What `pcace.rank` keeps in a store and logs to MLflow, if it is asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pcace
from pipeline.artifacts.base import DESCRIPTION
from pipeline.rankers import ace
from pipeline.tracking.network_comparison import compare_logged_networks
from pipeline.tracking.runs import chosen_runs, read_ranking
from tests.helpers.html import html_faults

QUICK: dict[str, Any] = {"permutations": 4, "bootstrap": 4, "folds": 2, "progress": False, "n_jobs": 1}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 3))


def stored(folder: Path) -> list[str]:
    """Return the stages of the artifacts in a store."""
    return sorted(path.parent.parent.name for path in folder.glob(f"*/*/{DESCRIPTION}"))


def test_scores_of_the_same_activations_are_not_computed_again(
    network: nn.Module, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pcace.rank(network, images, "0", 1, **QUICK)
    first = pcace.rank(network, images, "0", 1, store=tmp_path, **QUICK)
    assert stored(tmp_path) == ["activate", "rank", "reduce", "score"]
    assert list((tmp_path / "tmp").iterdir()) == []
    monkeypatch.setattr(ace, "score_by_ace", lambda *_arguments: pytest.fail("the scores must not be computed again"))
    second = pcace.rank(network, images, "0", 1, store=tmp_path, **QUICK)
    for ranking in (first, second):
        pd.testing.assert_frame_equal(ranking.to_frame(), plain.to_frame(), check_exact=True)
        assert isinstance(ranking.activations.maps, np.memmap)
        assert ranking.effects.faithfulness == plain.effects.faithfulness


def test_another_network_class_or_image_is_not_taken_from_the_store(
    network: nn.Module, images: torch.Tensor, tmp_path: Path
) -> None:
    pcace.rank(network, images, "0", 1, store=tmp_path, **QUICK)
    for change in ("target", "images", "weights"):
        target, changed = 1, images.clone()
        if change == "target":
            target = 2
        elif change == "images":
            changed[3] = 0
        else:
            with torch.no_grad():
                network.get_parameter("0.weight")[2] *= 1.5
        found = pcace.rank(network, changed, "0", target, store=tmp_path, **QUICK)
        expected = pcace.rank(network, changed, "0", target, **QUICK)
        pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame(), check_exact=True)
    assert stored(tmp_path).count("score") == 4


def test_scores_that_depend_on_the_network_are_not_kept(
    network: nn.Module, images: torch.Tensor, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"ranker": "weight_norm", "bootstrap": 0, "progress": False}
    pcace.rank(network, images, "0", 1, store=tmp_path, **options)
    assert stored(tmp_path) == ["activate", "reduce"]


@pytest.fixture
def tracking(tracked: Path) -> Any:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tracked / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("mine", artifact_location=(tracked / "files").as_uri())
    yield client, client.create_run(experiment)
    mlflow.set_tracking_uri(before)


def test_a_ranking_is_logged_to_a_run(network: nn.Module, images: torch.Tensor, tracking: Any) -> None:
    client, run = tracking
    ranking = pcace.rank(network, images, "0", 1, log=run, **QUICK)
    found = client.get_run(run.info.run_id)
    assert found.info.status == "RUNNING"
    table = ranking.to_frame()
    assert found.data.metrics[f"0/score.{table.by.iloc[0]}/best"] == table.score.max()
    assert {Path(file.path).name for file in client.list_artifacts(run.info.run_id, "0")} == {
        "ranking.csv", "ranking.parquet", "report.html", "settings.json", "trust.json",
    }  # fmt: skip


def test_a_run_has_several_rankings_of_a_layer(network: nn.Module, images: torch.Tensor, tracking: Any) -> None:
    client, run = tracking
    options: dict[str, Any] = {"ranker": "pearson", "bootstrap": 0, "settings": {"ablate.when": "never"}}
    first = pcace.rank(network, images, "0", 1, log=run, **options)
    second = pcace.rank(network, images, "0", 2, log=run, **options)
    logged = client.get_run(run.info.run_id).data
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"0", "0_2"}
    for name, ranking, target in (("0", first, "class 1"), ("0_2", second, "class 2")):
        assert logged.metrics[f"{name}/score.pearson/best"] == ranking.to_frame().score.max()
        assert logged.params[f"{name}.target"] == target
        assert logged.params[f"{name}.ranker"] == "pearson"
        assert logged.params[f"{name}.n_images"] == "30"


def test_a_network_is_logged_as_by_the_command_line(
    network: nn.Module, images: torch.Tensor, tracking: Any, tmp_path: Path
) -> None:
    client, run = tracking
    run_id, experiment = run.info.run_id, run.info.experiment_id
    client.log_param(run_id, "seed", "of the training")
    options: dict[str, Any] = {
        "ranker": "pearson",
        "bootstrap": 0,
        "settings": {"ablate.when": "never", "visualize.maximize": "never"},
    }
    found = pcace.rank(network, images, ["0", "1"], lambda outputs: outputs[:, 1], log=run, **options)
    logged = client.get_run(run_id)
    assert logged.info.status == "RUNNING"
    assert logged.data.params["seed"] == "of the training"
    assert logged.data.params["layer"] == "0,1"
    assert logged.data.tags["mlflow.note.content"] == "\n\n".join(found.sentences)
    files = {file.path for file in client.list_artifacts(run_id)}
    expected = {"figures", "layers.json", "network.html", "network.json", "ranking.json", "settings.json"}
    tables = {f"{table}.{kind}" for table in ("network", "layers", "not_ranked") for kind in ("csv", "parquet")}
    assert files == expected | tables
    association = sorted(client.get_metric_history(run_id, "by_layer/association"), key=lambda each: each.step)
    assert [each.value for each in association] == found.layers.association.tolist()
    page = Path(client.download_artifacts(run_id, "network.html", str(tmp_path))).read_text(encoding="utf-8")
    assert html_faults(page) == []
    assert '"network_layers/0.html": ' in page.partition('id="reports">')[2]

    layers = client.search_runs([experiment], f"tags.network = '{run_id}'", order_by=["attributes.start_time"])
    assert [each.info.run_name.partition(",")[0] for each in layers] == [
        f"pearson {layer} {found['0'].target}" for layer in ("0", "1")
    ]
    for each in layers:
        ranking = found[each.data.params["layer"]]
        assert each.info.status == "FINISHED"
        assert each.data.metrics["score.pearson/best"] == ranking.to_frame().score.max()
        pd.testing.assert_frame_equal(read_ranking(client, each), ranking.to_frame(), check_exact=True)
        assert "report.html" in {file.path for file in client.list_artifacts(each.info.run_id)}

    client.set_terminated(run_id)
    other = client.create_run(experiment)
    found.log(other)
    client.set_terminated(other.info.run_id)
    compared = chosen_runs(client, experiment, last=2, networks=True)
    assert [each.info.run_id for each in compared] == [run_id, other.info.run_id]
    table = compare_logged_networks(client, experiment, tmp_path / "compared", compared).table
    np.testing.assert_array_equal(table["association 2"], found.layers.association)

    fails = nn.Sequential(nn.Conv2d(1, 5, 9))  # would raise an error in its forward pass
    with pytest.raises(pcace.PipelineError) as caught:
        pcace.rank(fails, images, "*", 1, log=run, **options)
    assert str(caught.value) == (
        f"log must be a run without a network; got {run_id}, which has one. Start another run."
    )


def test_the_layers_of_a_network_are_taken_from_the_store(
    network: nn.Module, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pcace.rank(network, images, "*", 1, **QUICK)
    pcace.rank(network, images, "0", 1, store=tmp_path, **QUICK)
    pcace.rank(network, images, "*", 1, store=tmp_path, **QUICK)
    assert stored(tmp_path) == sorted(["activate", "rank", "reduce", "score"] * len(plain))
    monkeypatch.setattr(ace, "score_by_ace", lambda *_arguments: pytest.fail("the scores must not be computed again"))
    again = pcace.rank(network, images, "*", 1, store=tmp_path, **QUICK)
    pd.testing.assert_frame_equal(again.to_frame(), plain.to_frame(), check_exact=True)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_run_that_does_not_exist_is_named_before_anything_is_computed(tracking: Any, images: torch.Tensor) -> None:
    fails = nn.Sequential(nn.Conv2d(1, 5, 9))  # would raise an error in its forward pass
    for log, message in (
        (True, "log=True must have an active MLflow run; got none. Call mlflow.start_run() before."),
        (3.5, "log must be an MLflow run, its id or True; got float."),
    ):
        with pytest.raises(pcace.PipelineError) as caught:
            pcace.rank(fails, images, "0", 1, log=log, **QUICK)
        assert str(caught.value) == message
    with pytest.raises(pcace.PipelineError, match=r"^log must be a run in the tracking store of MLflow; got abc"):
        pcace.rank(fails, images, "0", 1, log="abc", **QUICK)
