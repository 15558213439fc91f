"""Log one ranking to an MLflow run that somebody else has started."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.exceptions import MlflowException

from pipeline.artifacts import Ranking
from pipeline.errors import StorageError
from pipeline.tracking.connection import tracking_errors
from pipeline.tracking.names import ranking_metrics


def run_id_of(log: object) -> str:
    """Return the id of an MLflow run.

    Parameters
    ----------
    log : mlflow.entities.Run, str or True
        The run, its id, or True for the active run.

    Raises
    ------
    StorageError
        If there is no such run.
    """
    if log is True:
        run = mlflow.active_run()
        if run is None:
            raise StorageError("log=True must have an active MLflow run; got none. Call mlflow.start_run() before.")
        return str(run.info.run_id)
    run_id = log if isinstance(log, str) else getattr(getattr(log, "info", None), "run_id", None)
    if not isinstance(run_id, str):
        raise StorageError(f"log must be an MLflow run, its id or True; got {type(log).__name__}.")
    try:
        MlflowClient().get_run(run_id)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise StorageError(
            f"log must be a run in the tracking store of MLflow; got {run_id} ({mlflow.get_tracking_uri()}: {reason}). "
            "Set the store with mlflow.set_tracking_uri."
        ) from error
    return run_id


def log_ranking(
    run_id: str,
    name: str,
    ranking: Ranking,
    settings: Mapping[str, Any],
    parameters: Mapping[str, Any],
    write_report: Callable[[Path], object],
) -> None:
    """Log a ranking to a run, which is not ended.

    Parameters
    ----------
    run_id : str
        Id of the run.
    name : str
        Name of the folder of the files, and beginning of the names of metrics and parameters: the layer. If the run has
        such a folder, a number is added, so that a run can contain several rankings of a layer.
    ranking : Ranking
        The ranking.
    settings : mapping
        All settings, in plain JSON types.
    parameters : mapping
        What identifies the ranking among others, such as the ranker and its settings.
    write_report : callable
        Writes the report to a file.
    """
    client = MlflowClient()
    with tempfile.TemporaryDirectory() as temporary, tracking_errors(mlflow.get_tracking_uri()):
        folder, name = Path(temporary), _free_name(client, run_id, name)
        ranking.save(folder)
        write_report(folder / "report.html")
        (folder / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        client.log_artifacts(run_id, temporary, name)
        client.log_batch(run_id, params=[Param(f"{name}.{each}", str(value)) for each, value in parameters.items()])
        for metric, value in ranking_metrics(ranking).items():
            client.log_metric(run_id, f"{name}/{metric}", value)


def _free_name(client: MlflowClient, run_id: str, name: str) -> str:
    """Return the name, with a number if the run has a folder of this name."""
    taken = {file.path for file in client.list_artifacts(run_id)}
    return next(
        each for each in itertools.chain([name], (f"{name}_{n}" for n in itertools.count(2))) if each not in taken
    )
