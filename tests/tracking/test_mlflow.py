from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.store.tracking.dbmodels.models import SqlDataset

from pipeline.artifacts import Figures, Ranking, Trust
from pipeline.environment import git_state
from pipeline.errors import MemoryExceededError, NetworkError, StorageError
from pipeline.resolve import resolve
from pipeline.runner import STAGES, in_fitting_batches, run
from pipeline.settings import Settings
from pipeline.tracking.connection import tracking_uri
from pipeline.tracking.mlflow import MlflowTracker
from pipeline.tracking.names import ranking_metrics, run_name, score_curve
from pipeline.tracking.network import NetworkTracker
from tests.helpers.rankings import ranking
from tests.helpers.settings import Compose
from tests.helpers.stages import fetch


def logged(outputs: Path) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(tracking_uri(outputs, None))
    experiment = client.get_experiment_by_name("pcace")
    assert experiment is not None
    return client, list(client.search_runs([experiment.experiment_id]))


def downloaded(client: MlflowClient, logged_run: Run, name: str, folder: Path) -> Any:
    return json.loads(Path(client.download_artifacts(logged_run.info.run_id, name, str(folder))).read_text())


@pytest.mark.usefixtures("tracked")
def test_a_run_is_logged_with_its_settings_environment_keys_and_results(compose: Compose, tmp_path: Path) -> None:
    settings = compose("tracking.enabled=true")
    result = run(settings, tmp_path / "run", [MlflowTracker({"sweep": "monday"})])
    client, (found,) = logged(tmp_path / "outputs")

    assert (found.info.status, found.info.run_name) == (
        "FINISHED",
        "penalised conv1 class 8, 20 images, 1 component, digits_cnn, seed 0",
    )
    params = found.data.params
    assert (params["layer"], params["target_class"], params["model.transform.kind"]) == ("conv1", "8", "none")
    config = downloaded(client, found, "config.json", tmp_path)
    assert config["n_images"] == 20

    tags = found.data.tags
    assert tags["sweep"] == "monday"
    assert {name: tags[name] for name in git_state()} == git_state()
    assert {tags[f"artifact.{report.stage.name}"] for report in result.reports} == {
        report.key.digest for report in result.reports
    }
    assert tags["env.torch"].startswith("2.")
    assert "openmp" in tags["env.threads"]
    recorded = downloaded(client, found, "environment.json", tmp_path)
    assert recorded["packages"]["numpy"] == recorded["numpy"] == np.__version__
    assert recorded["cpu"]
    keys = downloaded(client, found, "keys.json", tmp_path)
    assert keys["reduce"]["upstream"] == {"activate": tags["artifact.activate"]}
    assert keys["activate"]["reads"]["layer"] == "conv1"

    metrics, table = found.data.metrics, result.ranking.table
    assert {name for name in metrics if name.startswith("stage.seconds/")} == {
        f"stage.seconds/{stage.name}" for stage in STAGES
    }
    assert all(metrics[f"stage.cached/{stage.name}"] == 0 for stage in STAGES)
    trust = result.ranking.trust
    assert metrics["score.penalised/best"] == table.score.max()
    assert metrics["score.penalised/median"] == table.score.median()
    assert metrics["score.penalised/share_above_half"] == (table.score > 0.5).mean()
    assert (metrics["size/n_channels"], metrics["size/n_dead"]) == (16, 0)
    assert (metrics["quality/reliability"], metrics["quality/accuracy"]) == (trust.reliability, trust.accuracy)
    assert metrics["quality/n_significant"] == trust.n_significant == 16 * metrics["quality/share_significant"]
    faithfulness = result.effects.faithfulness
    for name in ("spearman", "deletion_area", "insertion_area"):
        assert metrics[f"quality/faithfulness.{name}"] == getattr(faithfulness, name)
    history = sorted(
        client.get_metric_history(found.info.run_id, "score.penalised/by_rank"), key=lambda metric: metric.step
    )
    assert [(metric.step, metric.value) for metric in history] == list(zip(table["rank"], table.score, strict=True))

    listed = downloaded(client, found, "ranking.json", tmp_path)
    assert listed["columns"][:3] == ["rank", "channel", "score"]
    assert [row[1] for row in listed["data"]] == table.channel.tolist()
    figures = {artifact.path for artifact in client.list_artifacts(found.info.run_id, "figures")}
    drawn = result.artifacts[Figures]
    assert figures == {f"figures/{name}" for name in ("channels", "overlays", *(path.name for path in drawn.paths))}

    pictured = downloaded(client, found, "channels.json", tmp_path)
    assert pictured["columns"] == ["rank", "picture", "channel", "score"]
    assert [row[2] for row in pictured["data"]] == table.channel.head(12).tolist()
    for row in pictured["data"]:
        assert row[1]["type"] == "image"
        assert client.download_artifacts(found.info.run_id, row[1]["filepath"], str(tmp_path))
    assert (
        metrics["quality/overlap_with_first.top_10"] == metrics["quality/overlap_with_first.rank_biased"] == 1
    )  # with itself

    assert found.inputs is not None
    (dataset,) = found.inputs.dataset_inputs
    assert dataset.dataset.name == "digits"
    assert dataset.dataset.digest == result.reports[0].key.digest[:32]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("score=pearson", "pearson conv1 class 8, 20 images, 1 component, digits_cnn, seed 0"),
        ("rank.by=excess", "excess conv1 class 8, 20 images, 1 component, digits_cnn, seed 0"),
        ("score.statistic=maximal", "maximal conv1 class 8, 20 images, 1 component, digits_cnn, seed 0"),
        ("n_components=0.9", "penalised conv1 class 8, 20 images, 90% of the variance, digits_cnn, seed 0"),
        (
            "layer=[conv1,relu1,conv2,relu2,conv3]",
            "penalised conv1 to conv3 class 8, 20 images, 1 component, digits_cnn, seed 0",
        ),
        (
            "model.randomized=2",
            "penalised conv1 class 8, 20 images, 1 component, digits_cnn, 2 modules randomised, seed 0",
        ),
    ],
)
def test_the_name_of_a_run_begins_with_what_tells_it_apart(compose: Compose, overrides: str, name: str) -> None:
    assert run_name(compose(overrides)) == name


def test_metrics_that_can_be_compared_come_first_and_scores_have_sections_of_their_own() -> None:
    def ranked(by: str, scores: list[float]) -> Ranking:
        table = ranking(scores, dead=(2,)).assign(by=by, statistic=by)
        return Ranking(table, Trust(reliability=0.81, images_for_reliable=float("inf"), n_significant=1))

    correlations = ranking_metrics(ranked("pearson", [0.9, 0.4, 0.0]))
    effects = ranking_metrics(ranked("gradient_x_activation", [55.0, 21.0, 0.0]))
    quality = {"accuracy": 0.9, "n_significant": 1, "reliability": 0.81, "share_significant": 0.5}
    compared = {f"quality/{name}": value for name, value in quality.items()}
    sizes = {"size/n_channels": 3, "size/n_dead": 1}
    assert correlations == pytest.approx(
        {
            **compared, **sizes, "score.pearson/best": 0.9, "score.pearson/median": 0.65,
            "score.pearson/share_above_half": 1 / 3,
        }
    )  # fmt: skip
    section = "score.gradient_x_activation"
    assert effects == pytest.approx({**compared, **sizes, f"{section}/best": 55, f"{section}/median": 38})
    assert sorted({name.partition("/")[0] for name in {**correlations, **effects}}) == [
        "quality", "score.gradient_x_activation", "score.pearson", "size",
    ]  # fmt: skip
    curve = score_curve(ranked("pearson", [0.9, 0.4, 0.0]).table, 0)
    assert [(metric.key, metric.step, metric.value) for metric in curve] == [
        ("score.pearson/by_rank", step, value) for step, value in ((1, 0.9), (2, 0.4), (3, 0.0))
    ]


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize("tracker", [MlflowTracker(), NetworkTracker()])
def test_a_run_whose_batch_was_halved_is_logged_with_the_size_that_was_used(
    compose: Compose, tmp_path: Path, tracker: MlflowTracker | NetworkTracker
) -> None:
    def ranked(given: Settings) -> None:
        tracker.layer_started(given.of_layer("conv1", 1))
        if given.model.batch_size > 5:
            raise MemoryExceededError("a batch must fit into the memory; got 20 images. Lower model.batch_size.")

    settings = resolve(compose("tracking.enabled=true"))  # 20 images, in one batch
    tracker.started(settings)
    tracker.resolved(settings)
    in_fitting_batches(settings, [tracker], ranked)
    tracker.failed(KeyboardInterrupt())
    client, runs = logged(tmp_path / "outputs")
    assert len(runs) == (2 if isinstance(tracker, NetworkTracker) else 1)  # the layer of the last attempt only
    for each in runs:
        assert (each.info.status, each.data.params["model.batch_size"]) == ("KILLED", "5")
        assert downloaded(client, each, "config.json", tmp_path)["model"]["batch_size"] == 5
    own = next(each for each in runs if each.info.run_id == tracker.run_id)
    assert own.data.tags["notes"].count("does not fit into the memory") == 2


@pytest.mark.usefixtures("tracked", "blank_figures")
def test_the_stages_of_a_repeated_run_are_logged_as_cached(compose: Compose, tmp_path: Path) -> None:
    settings = compose("tracking.enabled=true")
    for name in ("first", "again"):
        run(settings, tmp_path / name, [MlflowTracker()])
    _, (again, first) = logged(tmp_path / "outputs")
    assert {first.data.metrics[f"stage.cached/{stage.name}"] for stage in STAGES} == {0.0}
    assert {again.data.metrics[f"stage.cached/{stage.name}"] for stage in STAGES} == {1.0}
    assert "sweep" not in again.data.tags


def test_a_data_set_that_another_run_adds_at_the_same_moment_is_shared(
    compose: Compose, tracked: Path, tmp_path: Path
) -> None:
    settings = compose("tracking.enabled=true")
    images, tracker = fetch(settings, tmp_path / "set"), MlflowTracker()
    added: list[str] = []

    def add(_mapper: object, _connection: object, row: SqlDataset) -> None:
        if not added:
            added.append("0123")
            values = (added[0], row.experiment_id, row.name, row.digest, row.dataset_source_type, row.dataset_source)
            with closing(sqlite3.connect(tracked / "mlflow.db")) as other:
                other.execute(
                    "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, "
                    "dataset_source) VALUES (?, ?, ?, ?, ?, ?)",
                    values,
                )
                other.commit()

    tracker.started(settings)
    sqlalchemy.event.listen(SqlDataset, "before_insert", add)
    try:
        tracker._log_images(images, "ab" * 16)
    finally:
        sqlalchemy.event.remove(SqlDataset, "before_insert", add)
    assert added
    with closing(sqlite3.connect(tracked / "mlflow.db")) as rows:
        assert rows.execute("SELECT dataset_uuid FROM datasets").fetchall() == [("0123",)]
    _, (found,) = logged(tracked)
    assert found.inputs is not None
    assert [each.dataset.digest for each in found.inputs.dataset_inputs] == ["ab" * 16]


def test_a_failed_run_is_logged_as_failed_with_its_error(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(NetworkError):
        run(compose("tracking.enabled=true", "layer=conv9"), tmp_path / "run", [MlflowTracker()])
    _, (found,) = logged(tmp_path / "outputs")
    assert found.info.status == "FAILED"
    assert found.data.tags["error"].startswith("layer must be one of the network's layers; got 'conv9'.")


def test_the_message_for_a_store_that_cannot_be_opened_is_one_line(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = compose("tracking.enabled=true", f"tracking.uri=sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(StorageError, match=r"^tracking\.uri must be an MLflow store that can be written to; got sqli"):
        run(settings, tmp_path / "run", [MlflowTracker()])
