"""Log the summary of a sweep as a run of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.settings import TrackingSettings
from pipeline.tracking.connection import connect, origin_tags, tracking_errors, tracking_uri


def log_sweep(
    folder: Path, summary: pd.DataFrame, rankings: pd.DataFrame, tracking: TrackingSettings, outputs: Path
) -> None:
    """Log the summary of a sweep that has ended.

    The logged run has the tag ``summary_of`` instead of ``sweep``, so that it does not appear among the runs of the
    sweep when these are compared. It is FAILED if a job failed.

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
