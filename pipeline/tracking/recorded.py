"""A logged run with all that its making depended on, for making it again."""

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

from pipeline.errors import SettingsError
from pipeline.settings import TrackingSettings
from pipeline.tracking.mlflow import KEYS, connect, tracking_errors, tracking_uri


@dataclass(frozen=True)
class RecordedRun:
    """A finished run as it was logged.

    Attributes
    ----------
    run_id : str
        Whole.
    when : str
        When it began, UTC.
    commit : str
        Of the code; empty outside of git.
    config : mapping
        Its resolved settings.
    ranking : bytes
        Its ``ranking.csv``.
    keys : mapping
        By stage, what its artifact was made from.
    made_from : mapping
        The code and the environment.
    """

    run_id: str
    when: str
    commit: str
    config: Mapping[str, Any]
    ranking: bytes
    keys: Mapping[str, Any]
    made_from: Mapping[str, Any]


def load_run(run_id: str, outputs: Path, tracking: TrackingSettings) -> RecordedRun:
    """Return the run of this id, or whose id starts so.

    Raises
    ------
    SettingsError
        If there is none, or it never finished.
    """
    uri = tracking_uri(outputs, tracking.uri)
    with tracking_errors(uri):
        client, experiment_id = connect(uri, tracking.experiment, outputs)
        run = _find(client, experiment_id, run_id, uri)
        if run.info.status != "FINISHED":
            raise SettingsError(f"RUN_ID must be a finished run; got {run.info.run_id} ({run.info.status}).")
        tags = run.data.tags
        with TemporaryDirectory() as folder:

            def read(name: str) -> bytes:
                return Path(client.download_artifacts(run.info.run_id, name, folder)).read_bytes()

            try:
                config, keys, ranking = json.loads(read("config.json")), json.loads(read(KEYS)), read("ranking.csv")
                environment = json.loads(read("environment.json"))
            except (MlflowException, OSError) as error:
                raise SettingsError(
                    f"RUN_ID must be a run that pcace logged with its configuration and keys; got {run.info.run_id}."
                ) from error
    when = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    code = {name: tags.get(name) for name in ("git_commit", "git_dirty")}
    return RecordedRun(
        run.info.run_id, when, tags.get("git_commit", ""), config, ranking, keys, {**code, **environment}
    )


def _find(client: MlflowClient, experiment_id: str, run_id: str, uri: str) -> Run:
    try:
        return client.get_run(run_id)
    except MlflowException:
        runs = [run for run in client.search_runs([experiment_id]) if run.info.run_id.startswith(run_id)]
    if len(runs) != 1:
        found = f"{len(runs)} that start so" if runs else "none"
        raise SettingsError(
            f"RUN_ID must be a run logged to {uri}; got '{run_id}' ({found}). `python -m pipeline.ui` shows the runs."
        )
    return runs[0]
