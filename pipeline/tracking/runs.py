"""Find logged runs, and read back the ranking and the pictures of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline.artifacts import Figures, Ranking
from pipeline.errors import InputError, StorageError, listed
from pipeline.tracking.connection import existing_experiment

RANKED = "artifact.rank"  # tag of the runs with a ranking; summaries of sweeps and comparisons do not have it
NETWORK = "network"  # tag of the runs of the layers of a network: the id of the network's run
NETWORK_SUMMARY = "network_summary"  # tag of the network's run itself: its own id
N_CARDS = 5  # number of channels, from the best on, whose pictures are read back


@dataclass(frozen=True)
class LoggedRun:
    """A finished run, as it was logged.

    Attributes
    ----------
    run_id : str
        The run's id in MLflow.
    name : str
        The run's name in MLflow.
    params : dict of str to str
        The settings, by their dotted names.
    metrics : dict of str to float
        The latest value of each metric.
    table : DataFrame
        The table of the ranking.
    cards : dict of int to bytes
        Pictures of the best channels as PNG files, by channel.
    """

    run_id: str
    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    table: pd.DataFrame
    cards: dict[int, bytes]

    @property
    def ranked(self) -> tuple[str, str, int]:
        """Network, layer and number of channels. Ranks can be compared only between runs in which these are equal."""
        return self.params["model.name"], self.params["layer"], len(self.table)


def experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    """Return the id of the experiment in the store at `uri`; raise `StorageError` if it does not exist."""
    found = existing_experiment(client, name, uri)
    if found is None:
        raise StorageError(
            f"tracking.experiment must be an experiment with runs; got {name}, which does not exist. "
            "Start a run: pcace run."
        )
    return str(found.experiment_id)


def ranked_runs(client: MlflowClient, experiment: str, sweep: str | None = None, status: str = "FINISHED") -> list[Run]:
    """Return the runs of an experiment that have or should have a ranking, the latest first.

    Parameters
    ----------
    client : MlflowClient
        Client of the MLflow store.
    experiment : str
        Id of the experiment.
    sweep : str, optional
        Id of a sweep, to return its runs only.
    status : {"FINISHED", "FAILED", "KILLED", "RUNNING"}
        Status of the runs.
    """
    conditions = [f"attributes.status = '{status}'"]
    if sweep is not None:
        conditions.append(f"tags.sweep = '{sweep}'")
    found = client.search_runs([experiment], " and ".join(conditions), order_by=["attributes.start_time DESC"])
    return [run for run in found if RANKED in run.data.tags or (status != "FINISHED" and "layer" in run.data.params)]


def network_runs(client: MlflowClient, experiment: str, sweep: str | None = None) -> list[Run]:
    """Return the finished runs of whole networks, the latest first; with `sweep`, those of this sweep only."""
    conditions = ["attributes.status = 'FINISHED'", *([] if sweep is None else [f"tags.sweep = '{sweep}'"])]
    found = client.search_runs([experiment], " and ".join(conditions), order_by=["attributes.start_time DESC"])
    return [run for run in found if is_network(run)]


def is_network(run: Run) -> bool:
    """Return whether a run is that of a whole network."""
    return NETWORK_SUMMARY in run.data.tags


def _finished(client: MlflowClient, experiment: str, sweep: str | None = None) -> list[Run]:
    """Return the finished runs of layers and of networks, the latest first."""
    found = [*ranked_runs(client, experiment, sweep), *network_runs(client, experiment, sweep)]
    return sorted(found, key=lambda run: run.info.start_time, reverse=True)


def latest_sweep(client: MlflowClient, experiment: str) -> str | None:
    """Return the id of the latest sweep with a finished run, or None if there is none."""
    runs = _finished(client, experiment)
    return next((run.data.tags["sweep"] for run in runs if _is_swept(run)), None)


def chosen_runs(
    client: MlflowClient,
    experiment: str,
    *,
    ids: Sequence[str] = (),
    sweep: str | None = None,
    last: int = 0,
    networks: bool = False,
) -> list[Run]:
    """Return the finished runs that the user has chosen for a comparison.

    Parameters
    ----------
    client : MlflowClient
        Client of the MLflow store.
    experiment : str
        Id of the experiment.
    ids : sequence of str
        Ids of the runs, or the first characters of the ids; empty to choose by `sweep` or `last`.
    sweep : str, optional
        Id of a sweep, whose runs are returned.
    last : int
        Number of runs that are returned, counted from the latest; 0 for all.
    networks : bool
        Whether `last` counts the runs of whole networks instead of those of layers.

    Returns
    -------
    list of Run
        At least two runs, all of layers or all of networks: in the order of `ids`, or the oldest first. Of a sweep over
        networks, these are the networks.

    Raises
    ------
    InputError
        If a run or the sweep does not exist, or if there are fewer than two runs.
    """
    if ids:
        runs = _finished(client, experiment)[::-1]
    elif sweep is not None:
        is_id = "'" not in sweep
        runs = (
            (network_runs(client, experiment, sweep) or ranked_runs(client, experiment, sweep))[::-1] if is_id else []
        )
    else:
        runs = (network_runs if networks else ranked_runs)(client, experiment)[::-1]
    if sweep is not None and not runs:
        known = dict.fromkeys(run.data.tags["sweep"] for run in _finished(client, experiment) if _is_swept(run))
        raise InputError(
            f"--sweep must be a sweep with finished runs; got '{sweep}'. Latest: {listed(list(known), 3) or 'none'}."
        )
    found = [_named(runs, each) for each in ids] if ids else runs[-last:] if last else runs
    n_found = len({run.info.run_id for run in found})
    if n_found < 2:
        raise InputError(f"a comparison must have at least 2 finished runs; got {n_found}. Choose or start more runs.")
    n_networks = sum(is_network(run) for run in found)
    if n_networks not in (0, len(found)):
        raise InputError(
            f"the compared runs must all be of single layers or all of networks; got {n_networks} of {len(found)} of "
            "networks. Choose runs of one kind."
        )
    return found


def read_ranking(client: MlflowClient, run: Run) -> pd.DataFrame:
    """Return the table of the ranking of a run; raise `StorageError` if the run does not have it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return pd.read_parquet(client.download_artifacts(run.info.run_id, Ranking.PARQUET, folder))
        except (MlflowException, OSError) as error:
            raise StorageError(
                f"every compared run must have {Ranking.PARQUET}; got run {run.info.run_id} without it "
                f"({str(error).splitlines()[0]}). Repeat the run."
            ) from error


def read_run(client: MlflowClient, run: Run) -> LoggedRun:
    """Return a finished run with its ranking and the pictures of its best channels."""
    cards = {}
    with tempfile.TemporaryDirectory() as folder:
        found = [each.path for each in client.list_artifacts(run.info.run_id, f"figures/{Figures.CARDS}")]
        for path in sorted(found)[:N_CARDS]:
            local = Path(client.download_artifacts(run.info.run_id, path, folder))
            cards[int(local.stem.rpartition("_")[2])] = local.read_bytes()
    info = run.info
    params, metrics = dict(run.data.params), dict(run.data.metrics)
    return LoggedRun(info.run_id, info.run_name, params, metrics, read_ranking(client, run), cards)


def _is_swept(run: Run) -> bool:
    return "sweep" in run.data.tags


def _named(runs: Sequence[Run], name: str) -> Run:
    """Return the only run whose id starts with `name`."""
    found = [run for run in runs if run.info.run_id.startswith(name)]
    if len(found) != 1:
        which = f"{len(found)} ids start with it" if found else "there is none"
        recent = listed([run.info.run_id[:8] for run in reversed(runs)], 5)
        raise InputError(
            f"a run must be a finished run's id, or its first characters; got '{name}' ({which}). Latest: {recent}."
        )
    return found[0]


def comparison_of(client: MlflowClient, experiment: str, sweep: str) -> str | None:
    """Return the id of the run with the latest comparison of a sweep, or None if the sweep was not compared."""
    condition = f"tags.compared_sweep = '{sweep}' and attributes.status = 'FINISHED'"
    found = client.search_runs([experiment], condition, max_results=1, order_by=["attributes.start_time DESC"])
    return str(found[0].info.run_id) if found else None
