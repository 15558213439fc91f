"""The MLflow store that runs are logged to: its address, its errors, and clients for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.environment import environment, git_state
from pipeline.errors import StorageError

# MLflow logs each error of its database with a traceback before raising it; `tracking_errors` reports it in one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

DATABASE = "mlflow.db"


def tracking_uri(outputs: Path, uri: str | None) -> str:
    """Return the address of the MLflow store: `uri`, or by default the SQLite database in the folder `outputs`."""
    return uri or f"sqlite:///{outputs.absolute() / DATABASE}"


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
        If the default store is meant and no run has been logged to it.
    """
    if uri is None and not (outputs / DATABASE).exists():
        raise StorageError(f"runs must have been logged to {outputs}; got none. Make one: python -m pipeline.")
    address = tracking_uri(outputs, uri)
    return MlflowClient(address), address


def connect(outputs: Path, uri: str | None, experiment: str) -> tuple[MlflowClient, str]:
    """Return a client of the MLflow store and the id of the experiment; create both if they do not exist.

    Only one process at a time does this, because MLflow creates the tables of a database together with the client, and
    two processes that do so at the same time fail.

    Parameters
    ----------
    outputs : Path
        Folder of the default store, and of the files of all logged runs.
    uri : str or None
        The setting `tracking.uri`.
    experiment : str
        Name of the experiment.
    """
    outputs.mkdir(parents=True, exist_ok=True)
    with FileLock(outputs / f"{DATABASE}.lock"):
        client = MlflowClient(tracking_uri(outputs, uri))
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            return client, str(found.experiment_id)
        return client, client.create_experiment(experiment, artifact_location=(outputs / "mlartifacts").as_uri())


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Convert errors of the MLflow store inside the context to `StorageError`."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StorageError(
            f"tracking.uri must be an MLflow store that can be written to; got {uri} ({reason}). "
            "Free some disk space or correct the address; tracking.enabled=false runs without MLflow."
        ) from error


def origin_tags() -> dict[str, str]:
    """Return the tags that say which code, packages and machine a run was made with."""
    return {**git_state(), **{f"env.{name}": value for name, value in environment().items()}}
