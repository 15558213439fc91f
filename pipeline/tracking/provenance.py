"""A logged run with everything that its results depend on, so that it can be repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline.artifacts import Ranking
from pipeline.errors import SettingsError
from pipeline.settings import TrackingSettings
from pipeline.tracking.connection import connect, shown, tracking_errors, tracking_uri
from pipeline.tracking.mlflow import CONFIG, ENVIRONMENT, KEYS
from pipeline.tracking.runs import NETWORK, is_network


@dataclass(frozen=True)
class Provenance:
    """What a finished run was made from, as it was logged, and its ranking.

    Attributes
    ----------
    run_id : str
        The run's id in MLflow, complete.
    started : str
        Time at which the run started, in UTC.
    commit : str
        Commit of the code; empty outside of a git checkout.
    config : mapping
        The resolved settings.
    ranking : bytes
        Content of ``ranking.csv``.
    keys : mapping
        Description of the key of every stage's artifact, by the stage's name.
    origin : mapping
        The state of the code, the packages and the machine.
    """

    run_id: str
    started: str
    commit: str
    config: Mapping[str, Any]
    ranking: bytes
    keys: Mapping[str, Any]
    origin: Mapping[str, Any]


def load_provenance(run_id: str, outputs: Path, tracking: TrackingSettings) -> Provenance:
    """Return the provenance of a logged run.

    Parameters
    ----------
    run_id : str
        The run's id in MLflow, or its first characters.
    outputs : Path
        Folder of the default MLflow store.
    tracking : TrackingSettings
        Address of the MLflow store, and the experiment.

    Raises
    ------
    SettingsError
        If no run, or more than one, has an id that starts in this way, if the run did not finish, or if it is that of a
        whole network.
    """
    uri = tracking_uri(outputs, tracking.uri)
    with tracking_errors(uri):
        client, experiment_id = connect(outputs, tracking.uri, tracking.experiment)
        run = _find(client, experiment_id, run_id, uri)
        if run.info.status != "FINISHED":
            raise SettingsError(f"RUN_ID must be a finished run; got {run.info.run_id} ({run.info.status}).")
        tags = run.data.tags
        if is_network(run):
            raise SettingsError(
                f"RUN_ID must be the run of one layer; got {run.info.run_id} (a network). Give the id of one of its "
                f"layers: the runs with the tag {NETWORK}={run.info.run_id}."
            )
        with TemporaryDirectory() as folder:

            def read(name: str) -> bytes:
                return Path(client.download_artifacts(run.info.run_id, name, folder)).read_bytes()

            try:
                config, keys, environment = (json.loads(read(name)) for name in (CONFIG, KEYS, ENVIRONMENT))
                ranking = read(Ranking.CSV)
            except (MlflowException, OSError) as error:
                raise SettingsError(
                    f"RUN_ID must be a run that pcace logged with its configuration and keys; got {run.info.run_id}."
                ) from error
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    code = {name: tags.get(name) for name in ("git_commit", "git_dirty")}
    return Provenance(
        run.info.run_id, started, tags.get("git_commit", ""), config, ranking, keys, {**code, **environment}
    )


def _find(client: MlflowClient, experiment_id: str, run_id: str, uri: str) -> Run:
    """Return the run with this id, or the only one whose id starts with it."""
    try:
        return client.get_run(run_id)
    except MlflowException:
        runs = [run for run in client.search_runs([experiment_id]) if run.info.run_id.startswith(run_id)]
    if len(runs) != 1:
        found = f"{len(runs)} ids start with it" if runs else "none"
        raise SettingsError(
            f"RUN_ID must be a run logged to {shown(uri)}; got '{run_id}' ({found}). "
            "`python -m pipeline.ui` shows the runs."
        )
    return runs[0]
