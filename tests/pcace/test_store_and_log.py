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
    monkeypatch.setattr(ace, "_fit", lambda *_arguments: pytest.fail("the scores must not be computed again"))
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
