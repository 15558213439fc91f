"""A logged run with everything that its results depend on, so that it can be repeated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline.artifacts import NetworkRanking, Ranking
from pipeline.errors import SettingsError, listed
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
    rankings : mapping of str to bytes
        Content of ``ranking.csv`` of each layer.
    tables : mapping of str to bytes
        Content of the tables of a network, by the names of their files; empty for a run of one layer.
    keys : mapping of str to mapping
        For each layer the description of the key of every stage's artifact, by the stage's name.
    origin : mapping
        The state of the code, the packages and the machine.
    """

    run_id: str
    started: str
    commit: str
    config: Mapping[str, Any]
    rankings: Mapping[str, bytes]
    tables: Mapping[str, bytes]
    keys: Mapping[str, Mapping[str, Any]]
    origin: Mapping[str, Any]

    @property
    def is_network(self) -> bool:
        """Whether the run is that of a network."""
        return bool(self.tables)


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
        network whose layers are not all there.
    """
    uri = tracking_uri(outputs, tracking.uri)
    with tracking_errors(uri):
        client, experiment_id = connect(outputs, tracking.uri, tracking.experiment)
        run = _find(client, experiment_id, run_id, uri)
        if run.info.status != "FINISHED":
            raise SettingsError(f"RUN_ID must be a finished run; got {run.info.run_id} ({run.info.status}).")
        with TemporaryDirectory() as folder:
            config, environment = (json.loads(_read(client, run, name, folder)) for name in (CONFIG, ENVIRONMENT))
            tables = {}
            layers = [run]
            if is_network(run):
                names = (NetworkRanking.CHANNELS_CSV, NetworkRanking.LAYERS_CSV, NetworkRanking.NOT_RANKED_CSV)
                tables = {name: _read(client, run, name, folder) for name in names}
                layers = _layers(client, run, tables[NetworkRanking.LAYERS_CSV])
            keys, rankings = {}, {}
            for each in layers:
                layer = each.data.params["layer"]
                keys[layer] = json.loads(_read(client, each, KEYS, folder))
                rankings[layer] = _read(client, each, Ranking.CSV, folder)
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    tags = run.data.tags
    code = {name: tags.get(name) for name in ("git_commit", "git_dirty")}
    return Provenance(
        run.info.run_id, started, tags.get("git_commit", ""), config, rankings, tables, keys, {**code, **environment}
    )


def _read(client: MlflowClient, run: Run, name: str, folder: str) -> bytes:
    """Return the content of a file that a run has logged."""
    try:
        return Path(client.download_artifacts(run.info.run_id, name, folder)).read_bytes()
    except (MlflowException, OSError) as error:
        raise SettingsError(
            f"RUN_ID must be a run that pcace logged with its configuration and keys; got {run.info.run_id}."
        ) from error


def _layers(client: MlflowClient, run: Run, table: bytes) -> list[Run]:
    """Return the runs of the layers in a network's table of layers, in its order."""
    condition = f"tags.{NETWORK} = '{run.info.run_id}' and attributes.status = 'FINISHED'"
    found = {each.data.params.get("layer"): each for each in client.search_runs([run.info.experiment_id], condition)}
    names = pd.read_csv(BytesIO(table), dtype={"layer": str}).layer.tolist()
    missing = [name for name in names if name not in found]
    if missing:
        raise SettingsError(
            f"RUN_ID must be a network with a finished run of each layer; got {run.info.run_id}, without the runs of "
            f"{listed(missing)}. Restore them in MLflow (tag {NETWORK}), or rank the network again."
        )
    return [found[name] for name in names]


def _find(client: MlflowClient, experiment_id: str, run_id: str, uri: str) -> Run:
    """Return the run with this id, or the only one whose id starts with it."""
    try:
        return client.get_run(run_id)
    except MlflowException:
        runs = [run for run in client.search_runs([experiment_id]) if run.info.run_id.startswith(run_id)]
    if len(runs) != 1:
        found = f"{len(runs)} ids start with it" if runs else "none"
        raise SettingsError(
            f"RUN_ID must be a run logged to {shown(uri)}; got '{run_id}' ({found}). `pcace ui` shows the runs."
        )
    return runs[0]
