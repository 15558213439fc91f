"""The MLflow store that runs are logged to: its address, its errors, and clients for it."""

from __future__ import annotations

import errno
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy.exc import SQLAlchemyError

from pipeline.environment import environment, git_state
from pipeline.errors import StorageError
from pipeline.store import process_lock
from pipeline.tracking.database import ARTIFACTS, address, check, damaged, file_of, is_damage, prepare, relocate

DATABASE = "mlflow.db"
SERVER_SECONDS = 10.0  # time within which a server must accept the first connection
# What to do about a refusal of the MLflow store, by a pattern that is searched in its text.
ADVICE = (
    (r"disk is full|No space left|quota exceeded", "Free some disk space, or set paths.outputs to another disk"),
    (
        r"readonly database|Permission denied|Read-only file system|not permitted|Not a directory|File exists",
        "Make it writable, or set paths.outputs or tracking.uri to another place",
    ),
    (r"unable to open database", "Create its folder and make it writable, or correct the address"),
    (r"database is locked", "Another process writes to it: run again when that process has ended"),
    (r"must be in the 'active' state",
     "It was deleted in MLflow: restore it there, or set tracking.experiment to another name"),
    (r"out-of-date database schema|Can't locate revision", "Make a backup and run: mlflow db upgrade {uri}"),
    (r"code 40[13]|UNAUTHENTICATED|PERMISSION_DENIED",
     "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"),
    (r"Max retries exceeded|Connection|connect|timed out|resolve", "Start the server, or correct the address"),
)  # fmt: skip
OTHER_ADVICE = "Correct the address, for example http://127.0.0.1:5000 or sqlite:////FOLDER/mlflow.db"


def tracking_uri(outputs: Path, uri: str | None) -> str:
    """Return the address of the MLflow store: `uri`, or by default the SQLite database in the folder `outputs`."""
    return uri or address(outputs.absolute() / DATABASE)


def open_store(outputs: Path, uri: str | None) -> tuple[MlflowClient, str]:
    """Return a client of an existing MLflow store, and its address.

    Parameters
    ----------
    outputs : Path
        Folder of the default store.
    uri : str or None
        The setting `tracking.uri`.

    Raises
    ------
    StorageError
        If there is no such store, or if it cannot be opened.
    """
    store = tracking_uri(outputs, uri)
    path = file_of(store)
    if path is not None:
        check(path)
        if not path.exists():
            place = outputs if uri is None else shown(store)
            raise StorageError(f"runs must have been logged to {place}; got none. Make one: pcace run.")
    return _client(outputs, store), store


def connect(outputs: Path, uri: str | None, experiment: str) -> tuple[MlflowClient, str]:
    """Return a client of the MLflow store and the id of the experiment; create both if they do not exist.

    Parameters
    ----------
    outputs : Path
        Folder of the default store, and of the files of all runs that are logged to a database.
    uri : str or None
        The setting `tracking.uri`.
    experiment : str
        Name of the experiment.

    Raises
    ------
    StorageError
        If the store cannot be opened, or if the experiment was deleted.
    """
    store = tracking_uri(outputs, uri)
    with tracking_errors(store):
        outputs.mkdir(parents=True, exist_ok=True)
        client = _client(outputs, store)
        with process_lock(outputs / f"{DATABASE}.lock"):  # two processes may need the same new experiment
            found = existing_experiment(client, experiment, store)
            if found is not None:
                return client, str(found.experiment_id)
            # A server stores files in its own place. A database has none, so that they are stored in the outputs.
            is_database = store.partition(":")[0].partition("+")[0] in DATABASE_ENGINES
            location = (outputs.absolute() / ARTIFACTS).as_uri() if is_database else None
            return client, client.create_experiment(experiment, artifact_location=location)


def existing_experiment(client: MlflowClient, name: str, uri: str) -> Experiment | None:
    """Return the experiment called `name`, or None if there is none.

    Raises
    ------
    StorageError
        If it was deleted. MLflow keeps deleted experiments, and their names cannot be used again.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == LifecycleStage.DELETED:
        raise StorageError(
            f"tracking.experiment must be an experiment that is not deleted; got {name}, which was deleted in MLflow. "
            f"Set tracking.experiment to another name, or restore it: MLFLOW_TRACKING_URI={shlex.quote(shown(uri))} "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return found


def _client(outputs: Path, uri: str) -> MlflowClient:
    """Return a client of the store, which is prepared first if it is an SQLite database."""
    path, artifacts = file_of(uri), outputs.absolute() / ARTIFACTS
    if path is not None and re.search(r"\?(?!\w+=)", uri):
        raise StorageError(
            f"tracking.uri must have the form sqlite:////FOLDER/FILE?NAME=VALUE; got {uri}, whose file would be {path}."
            " Write a question mark in a name as %3F."
        )
    with tracking_errors(uri):
        if path is not None:
            prepare(path, artifacts)
            if path == outputs.absolute() / DATABASE:
                relocate(path, artifacts)
        elif uri.startswith(("http://", "https://")):
            _reach(uri)
        return MlflowClient(uri)


def _reach(uri: str) -> None:
    """Raise `StorageError` if the server does not answer: MLflow itself would try for minutes, without a message."""
    import httpx  # imported here because most runs are logged to a file

    try:
        httpx.get(uri, timeout=SERVER_SECONDS, verify=False)  # certificates are checked by MLflow, see its variables
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise StorageError(
            f"tracking.uri must be an MLflow server that answers; got {shown(uri)} ({error}). "
            "Start the server, or correct the address; tracking.enabled=false runs without MLflow."
        ) from error


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Convert errors of the MLflow store inside the context to `StorageError`."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise _refusal(error, uri) from error


def _refusal(error: Exception, uri: str) -> StorageError:
    """Return the error for a refusal of the MLflow store, with the advice for its kind."""
    text = str(error) or type(error).__name__
    reason = re.sub(r"^\(\w+(\.\w+)*\) ", "", text.splitlines()[0])  # without the class of the database's own error
    path = file_of(uri)
    if path is not None and is_damage(text):
        return damaged(path, reason)
    if isinstance(error, OSError) and error.errno in (errno.EDQUOT, errno.ENOSPC):
        text = "disk is full"
    advice = next((advice for pattern, advice in ADVICE if re.search(pattern, text)), OTHER_ADVICE)
    return StorageError(
        f"tracking.uri must be an MLflow store that can be written to; got {shown(uri)} ({reason}). "
        f"{advice.format(uri=shlex.quote(shown(uri)))}; tracking.enabled=false runs without MLflow."
    )


def shown(uri: str) -> str:
    """Return an address for a message, without the password that it may contain."""
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", uri)


def origin_tags() -> dict[str, str]:
    """Return the tags that say which code, packages and machine a run was made with."""
    return {**git_state(), **{f"env.{name}": value for name, value in environment().items()}}
