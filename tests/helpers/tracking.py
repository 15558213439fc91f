"""What MLflow has logged."""

from __future__ import annotations

from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run


def logged_runs(client: MlflowClient, **search: Any) -> list[Run]:
    """Return the runs of the experiment ``pcace``, which must exist.

    The arguments in `search` are passed to `MlflowClient.search_runs`.
    """
    experiment = client.get_experiment_by_name("pcace")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], **search))
