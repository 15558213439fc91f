"""The summary of a sweep in MLflow, and the runs of a sweep that is resumed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from pipeline.settings import TrackingSettings
from pipeline.tracking.connection import connect
from pipeline.tracking.sweep_summary import log_sweep, withdraw_runs
from tests.helpers.tracking import logged_runs

TRACKING = TrackingSettings(enabled=True, uri=None, experiment="pcace")


def summary(*statuses: str) -> pd.DataFrame:
    return pd.DataFrame({"job": range(len(statuses)), "status": statuses, "seconds": 1.0, "from_store": ""})


def test_a_sweep_that_is_summarised_again_has_one_summary(tracked: Path, tmp_path: Path) -> None:
    folder = tmp_path / "monday's"
    folder.mkdir()
    (folder / "summary.csv").write_text("job\n")
    rankings = pd.DataFrame({"rank": [1], "n=1": [3]})
    log_sweep(folder, summary("finished", "failed"), rankings, TRACKING, tracked)
    log_sweep(folder, summary("finished", "finished"), rankings, TRACKING, tracked)
    log_sweep(tmp_path, summary("finished"), rankings, TRACKING, tracked)  # another sweep
    client, _ = connect(tracked, None, "pcace")
    found = [run for run in logged_runs(client) if run.data.tags["summary_of"] == "monday's"]
    assert [(run.info.status, run.data.metrics["n_failed"]) for run in found] == [("FINISHED", 0.0)]
    assert len(logged_runs(client)) == 2


@pytest.mark.parametrize("status", ["FAILED", "RUNNING", "FINISHED"])
def test_runs_of_jobs_that_are_run_again_leave_the_sweep(tracked: Path, status: str) -> None:
    client, experiment = connect(tracked, None, "pcace")

    def logged(status: str, **tags: str) -> str:
        run_id = str(client.create_run(experiment, tags=tags).info.run_id)
        if status != "RUNNING":
            client.set_terminated(run_id, status)
        return run_id

    network = logged(status, sweep="monday", job="2")
    layer = logged(status, network=network)
    kept = [logged("FINISHED", sweep="monday", job="1"), logged("RUNNING", sweep="tuesday", job="2")]
    withdraw_runs("monday", ["2", "3"], TRACKING, tracked)

    found = {run.info.run_id: run for run in logged_runs(MlflowClient(f"sqlite:///{tracked / 'mlflow.db'}"))}
    expected = "KILLED" if status == "RUNNING" else status
    assert [found[each].info.status for each in (network, layer)] == [expected, expected]
    tags = found[network].data.tags
    assert (tags.get("sweep"), tags["interrupted_sweep"], tags["job"]) == (None, "monday", "2")
    assert [(found[each].info.status, found[each].data.tags["sweep"]) for each in kept] == [
        ("FINISHED", "monday"),
        ("RUNNING", "tuesday"),
    ]
