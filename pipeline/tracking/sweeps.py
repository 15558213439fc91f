"""A sweep's summary as an MLflow run of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.environment import environment, git_state
from pipeline.settings import TrackingSettings
from pipeline.tracking.mlflow import connect, tracking_errors, tracking_uri


def log_sweep(
    folder: Path, summary: pd.DataFrame, rankings: pd.DataFrame, tracking: TrackingSettings, outputs: Path
) -> None:
    """Log a sweep that has ended.

    Its run carries the tag ``summary_of``, not ``sweep``: among the runs that a comparison shows it has no place.

    Parameters
    ----------
    folder : Path
        The sweep's, with the files of its summary.
    summary, rankings : DataFrame
        One row a job; the channels by rank, one column a job.
    tracking : TrackingSettings
        Where to.
    outputs : Path
        The folder of the default store.
    """
    uri = tracking_uri(outputs, tracking.uri)
    n_failed = int((summary.status != "finished").sum())
    with tracking_errors(uri):
        client, experiment_id = connect(uri, tracking.experiment, outputs)
        tags = {**git_state(), **{f"env.{name}": value for name, value in environment().items()}}
        tags["summary_of"] = folder.name
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
