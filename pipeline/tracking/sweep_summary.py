"""Log the summary of a sweep as a run of its own, and prepare the runs of a sweep that is resumed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.settings import TrackingSettings
from pipeline.tracking.connection import connect, origin_tags, tracking_errors, tracking_uri
from pipeline.tracking.runs import NETWORK


def log_sweep(
    folder: Path, summary: pd.DataFrame, rankings: pd.DataFrame, tracking: TrackingSettings, outputs: Path
) -> None:
    """Log the summary of a sweep that has ended.

    The logged run has the tag ``summary_of`` instead of ``sweep``, so that it does not appear among the runs of the
    sweep when these are compared. It is FAILED if a job failed. The summary of an earlier attempt is deleted.

    Parameters
    ----------
    folder : Path
        Folder of the sweep, whose files are logged.
    summary : DataFrame
        One row for each job.
    rankings : DataFrame
        The channels by rank, one column for each job.
    tracking : TrackingSettings
        Address of the MLflow store, and the experiment.
    outputs : Path
        Folder of the default store.
    """
    uri = tracking_uri(outputs, tracking.uri)
    n_failed = int((summary.status != "finished").sum())
    with tracking_errors(uri):
        client, experiment_id = connect(outputs, tracking.uri, tracking.experiment)
        for earlier in _runs(client, experiment_id, "summary_of", folder.name):
            client.delete_run(earlier.info.run_id)
        tags = {**origin_tags(), "summary_of": folder.name}
        run_id = client.create_run(experiment_id, tags=tags, run_name=f"sweep {folder.name}").info.run_id
        metrics = {
            "n_jobs": len(summary),
            "n_failed": n_failed,
            "seconds": summary.seconds.sum(),
            "stages_from_store": sum(len(stages.split()) for stages in summary.from_store),
        }
        for name, value in metrics.items():
            client.log_metric(run_id, name, float(value))
        for table, name in ((summary, "summary.json"), (rankings, "rankings.json")):
            client.log_table(run_id, table.astype(object).where(table.notna(), None), name)
        for path in sorted(path for path in folder.glob("*.*") if path.is_file()):
            client.log_artifact(run_id, str(path))
        client.set_terminated(run_id, "FAILED" if n_failed else "FINISHED")


def withdraw_runs(sweep: str, jobs: Collection[str], tracking: TrackingSettings, outputs: Path) -> None:
    """Take the runs of jobs that are run again out of a sweep, so that each job has one run in it.

    The runs stay in MLflow with the tag ``interrupted_sweep`` instead of ``sweep``. Those that were killed, which
    MLflow shows as running, end as KILLED.

    Parameters
    ----------
    sweep : str
        Name of the folder of the sweep.
    jobs : collection of str
        Names of the folders of these jobs. None of them may be running.
    tracking : TrackingSettings
        Address of the MLflow store, and the experiment.
    outputs : Path
        Folder of the default store.
    """
    uri = tracking_uri(outputs, tracking.uri)
    with tracking_errors(uri):
        client, experiment_id = connect(outputs, tracking.uri, tracking.experiment)
        for run in _runs(client, experiment_id, "sweep", sweep):
            if run.data.tags.get("job") not in jobs:
                continue
            for each in (run, *_runs(client, experiment_id, NETWORK, run.info.run_id)):
                if each.info.status == "RUNNING":
                    client.set_terminated(each.info.run_id, "KILLED")
            client.set_tag(run.info.run_id, "interrupted_sweep", sweep)
            client.delete_tag(run.info.run_id, "sweep")


def _runs(client: MlflowClient, experiment: str, tag: str, value: str) -> list[Run]:
    """Return all runs of an experiment that have a tag with this value."""
    quote = '"' if "'" in value else "'"
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], f"tags.{tag} = {quote}{value}{quote}", page_token=token)
        found += page
        if not (token := page.token):
            return found
