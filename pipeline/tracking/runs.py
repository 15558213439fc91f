"""Read back what runs logged: which there are, and one run's ranking and pictures."""

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

# A run that holds a ranking has this tag; a sweep's summary and a comparison have not.
RANKED = "artifact.rank"
PICTURED = 5  # best channels whose picture is read back


@dataclass(frozen=True)
class LoggedRun:
    """A finished run, read back.

    Attributes
    ----------
    run_id, name : str
        MLflow's.
    params : dict of str to str
        The settings, flat.
    metrics : dict of str to float
        Latest values.
    table : DataFrame
        The ranking's.
    cards : dict of int to bytes
        PNG pictures of the best channels, by channel.
    """

    run_id: str
    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    table: pd.DataFrame
    cards: dict[int, bytes]

    @property
    def ranked(self) -> tuple[str, str, int]:
        """What was ranked: network, layer, number of channels. Ranks compare only where it is the same."""
        return self.params["model.name"], self.params["layer"], len(self.table)


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the experiment's id; raise `StorageError` where nothing was logged to it."""
    found = client.get_experiment_by_name(name)
    if found is None:
        raise StorageError(f"tracking.experiment must hold runs; got {name} (there is none). Run the pipeline first.")
    return str(found.experiment_id)


def ranked_runs(client: MlflowClient, experiment: str, sweep: str | None = None, status: str = "FINISHED") -> list[Run]:
    """Return the runs of an experiment that asked for a ranking, the latest first."""
    conditions = [f"attributes.status = '{status}'"]
    if sweep is not None:
        conditions.append(f"tags.sweep = '{sweep}'")
    found = client.search_runs([experiment], " and ".join(conditions), order_by=["attributes.start_time DESC"])
    return [run for run in found if RANKED in run.data.tags or (status != "FINISHED" and "layer" in run.data.params)]


def latest_sweep(client: MlflowClient, experiment: str) -> str | None:
    """Return the id of the sweep that ran last, None where there was none."""
    runs = ranked_runs(client, experiment)
    return next((run.data.tags["sweep"] for run in runs if _is_swept(run)), None)


def chosen_runs(
    client: MlflowClient, experiment: str, *, ids: Sequence[str] = (), sweep: str | None = None, last: int = 0
) -> list[Run]:
    """Return the runs meant, oldest first (or as named): by id or its beginning, a sweep's, or the last so many.

    Raises
    ------
    InputError
        If a run or a sweep is not there, or if there are fewer than two runs.
    """
    runs = [] if sweep and "'" in sweep else ranked_runs(client, experiment, sweep)[::-1]
    if sweep is not None and not runs:
        known = dict.fromkeys(run.data.tags["sweep"] for run in ranked_runs(client, experiment) if _is_swept(run))
        raise InputError(
            f"--sweep must be a sweep with finished runs; got '{sweep}'. Latest: {listed(list(known), 3) or 'none'}."
        )
    found = [_named(runs, each) for each in ids] if ids else runs[-last:] if last else runs
    n_found = len({run.info.run_id for run in found})
    if n_found < 2:
        raise InputError(f"a comparison must have at least 2 finished runs; got {n_found}. Name more, or run more.")
    return found


def read_ranking(client: MlflowClient, run: Run) -> pd.DataFrame:
    """Return the table that a run ranked; raise `StorageError` where it holds none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return pd.read_parquet(client.download_artifacts(run.info.run_id, Ranking.PARQUET, folder))
        except (MlflowException, OSError) as error:
            raise StorageError(
                f"every run compared must hold {Ranking.PARQUET}; got run {run.info.run_id} "
                f"({str(error).splitlines()[0]}). Run it again."
            ) from error


def read_run(client: MlflowClient, run: Run) -> LoggedRun:
    """Return a run with its ranking and the pictures of its best channels."""
    cards = {}
    with tempfile.TemporaryDirectory() as folder:
        found = [each.path for each in client.list_artifacts(run.info.run_id, f"figures/{Figures.CARDS}")]
        for path in sorted(found)[:PICTURED]:
            local = Path(client.download_artifacts(run.info.run_id, path, folder))
            cards[int(local.stem.rpartition("_")[2])] = local.read_bytes()
    info = run.info
    params, metrics = dict(run.data.params), dict(run.data.metrics)
    return LoggedRun(info.run_id, info.run_name, params, metrics, read_ranking(client, run), cards)


def _is_swept(run: Run) -> bool:
    return "sweep" in run.data.tags


def _named(runs: Sequence[Run], name: str) -> Run:
    found = [run for run in runs if run.info.run_id.startswith(name)]
    if len(found) != 1:
        which = "several begin so" if found else "there is none"
        recent = listed([run.info.run_id[:8] for run in reversed(runs)], 5)
        raise InputError(
            f"a run must be a finished run's id or its beginning; got '{name}' ({which}). Latest: {recent}."
        )
    return found[0]


def comparison_of(client: MlflowClient, experiment: str, sweep: str) -> str | None:
    """Return the run that holds the latest comparison of a sweep, None where none was made."""
    condition = f"tags.compared_sweep = '{sweep}' and attributes.status = 'FINISHED'"
    found = client.search_runs([experiment], condition, max_results=1, order_by=["attributes.start_time DESC"])
    return str(found[0].info.run_id) if found else None
