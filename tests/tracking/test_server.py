"""A tracking server that stores the files of runs itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runner import run
from pipeline.tracking.connection import connect
from pipeline.tracking.mlflow import MlflowTracker
from pipeline.ui import free_port, serve, wait_until_up
from tests.helpers.settings import Compose


def test_files_of_a_run_are_stored_by_the_server(
    compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, root = tmp_path / "server" / "files", f"http://127.0.0.1:{free_port(5600)}"
    files.mkdir(parents=True)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", root.rpartition(":")[2],
        "--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/server/mlflow.db",
        "--artifacts-destination", str(files), "--uvicorn-opts", "--log-level critical",
    ]  # fmt: skip
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    server = subprocess.Popen(command, cwd=tmp_path / "server", env={**os.environ, **quiet})
    try:
        wait_until_up(root, server)
        tracker = MlflowTracker()
        result = run(compose("tracking.enabled=true", f"tracking.uri={root}"), tmp_path / "run", [tracker])
        client, experiment = connect(tmp_path / "outputs", root, "pcace")
        assert "View run" not in capsys.readouterr().out
        logged = client.get_run(tracker.run_id)
        assert (logged.info.status, logged.info.experiment_id) == ("FINISHED", experiment)
        assert str(logged.info.artifact_uri).startswith("mlflow-artifacts:/")
        (stored,) = files.rglob("ranking.csv")
        assert stored.read_bytes() == (result.run_dir / "ranking.csv").read_bytes()
        figures = {path.name for path in (result.run_dir / "figures").rglob("*.png")}
        assert figures <= {path.name for path in files.rglob("*.png")}
        assert not (tmp_path / "outputs" / "mlartifacts").exists()
        assert not list((tmp_path / "outputs").glob("*.db"))
        capsys.readouterr()
        assert serve(compose(f"tracking.uri={root}"), None) == 0
        report = f"{root}/#/experiments/{experiment}/runs/{tracker.run_id}/artifacts/report.html"
        assert capsys.readouterr().out.splitlines() == [f"MLflow on {root}", f"  latest report          {report}"]
    finally:
        server.terminate()
        server.wait()
