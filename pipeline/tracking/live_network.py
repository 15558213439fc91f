"""Log the ranking of a network to an MLflow run that somebody else has started, and its layers to runs of their own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from pipeline.artifacts import NetworkRanking, Ranking
from pipeline.errors import StorageError
from pipeline.report_writer import flat
from pipeline.run_folder import REPORT
from pipeline.settings import Settings
from pipeline.tracking.connection import origin_tags, tracking_errors
from pipeline.tracking.mlflow import BATCH_SIZE, PARAM_LENGTH, log_at_end, log_settings
from pipeline.tracking.names import ranking_metrics, run_name, score_curve
from pipeline.tracking.network import log_tables
from pipeline.tracking.runs import NETWORK, NETWORK_SUMMARY, RANKED

IN_MEMORY = "in memory"  # in the place of the key of an artifact, which rankings in memory do not have
NOTE = "mlflow.note.content"


@dataclass(frozen=True)
class LiveLayer:
    """The ranking of one layer of a network in memory.

    Attributes
    ----------
    settings : Settings
        Its settings.
    ranking : Ranking
        Its ranking.
    sentences : sequence of str
        What a reader must know of it.
    report : Path
        Its report.
    """

    settings: Settings
    ranking: Ranking
    sentences: list[str]
    report: Path


def check_no_network(run_id: str) -> None:
    """Raise `StorageError` if a run has the ranking of a network already."""
    with tracking_errors(mlflow.get_tracking_uri()):
        run = MlflowClient().get_run(run_id)
    if NETWORK_SUMMARY in run.data.tags:
        raise StorageError(f"log must be a run without a network; got {run_id}, which has one. Start another run.")


def log_network(
    run_id: str, ranking: NetworkRanking, settings: Settings, layers: Mapping[str, LiveLayer], folder: Path
) -> None:
    """Log a network and its layers with the tags, names, metrics and files that a run of the command line has.

    Parameters
    ----------
    run_id : str
        Id of the run of the network, which is not ended. It keeps its parameters and its description.
    ranking : NetworkRanking
        The tables.
    settings : Settings
        The settings; `layer` selects the layers.
    layers : mapping of str to LiveLayer
        The layers, each of which is logged to a new run in the same experiment.
    folder : Path
        Folder with the files of the network.
    """
    client = MlflowClient()
    with tracking_errors(mlflow.get_tracking_uri()):
        run = client.get_run(run_id)
        for layer in layers.values():
            _log_layer(client, run.info.experiment_id, run_id, layer, ranking.summary.target)
        values = {name: str(value)[:PARAM_LENGTH] for name, value in flat(asdict(settings)).items()}
        free = [Param(name, value) for name, value in values.items() if name not in run.data.params]
        client.log_batch(run_id, params=free)
        log_tables(client, run_id, ranking)
        if NOTE not in run.data.tags:
            client.set_tag(run_id, NOTE, "\n\n".join(ranking.sentences))
        client.log_artifacts(run_id, str(folder))
        client.set_tag(run_id, NETWORK_SUMMARY, run_id)


def _log_layer(client: MlflowClient, experiment: str, network: str, layer: LiveLayer, target: str) -> None:
    """Log a layer to a new run, and end it."""
    tags = {**origin_tags(), NETWORK: network, RANKED: IN_MEMORY, NOTE: "\n\n".join(layer.sentences)}
    run = client.create_run(experiment, tags=tags, run_name=run_name(layer.settings, target))
    run_id, now, table = str(run.info.run_id), int(time.time() * 1000), layer.ranking.table
    environment = log_settings(client, run_id, layer.settings)
    values = ranking_metrics(layer.ranking)
    metrics = [*(Metric(name, value, now, 0) for name, value in values.items()), *score_curve(table, now)]
    for start in range(0, len(metrics), BATCH_SIZE):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH_SIZE])
    client.set_tag(run_id, "trusted", str(not layer.ranking.trust.is_low).lower())
    client.log_table(run_id, table, "ranking.json")
    client.log_text(run_id, layer.report.read_text(encoding="utf-8"), REPORT)
    with tempfile.TemporaryDirectory() as temporary:
        layer.ranking.save(Path(temporary))
        client.log_artifacts(run_id, temporary)
    log_at_end(client, run_id, layer.settings, environment)
    client.set_terminated(run_id, "FINISHED")
