"""Log one ranking to an MLflow run that somebody else has started."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
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
    write_report: Callable[[Path], object],
) -> None:
    """Log a ranking to a run, which is not ended.

    Parameters
    ----------
    run_id : str
        Id of the run.
    name : str
        Name of the folder of the files, and beginning of the names of metrics: the layer.
    ranking : Ranking
        The ranking.
    settings : mapping
        All settings, in plain JSON types.
    write_report : callable
        Writes the report to a file.
    """
    client = MlflowClient()
    with tempfile.TemporaryDirectory() as temporary, tracking_errors(mlflow.get_tracking_uri()):
        folder = Path(temporary)
        ranking.save(folder)
        write_report(folder / "report.html")
        (folder / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        client.log_artifacts(run_id, temporary, name)
        for metric, value in ranking_metrics(ranking).items():
            client.log_metric(run_id, f"{name}/{metric}", value)
