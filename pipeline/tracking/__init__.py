"""Every run is logged: what was asked, what came out, how long it took, from which code."""

import os

# Before MLflow is imported by any module of this room: its telemetry looks up hosts, its bars fill the terminal.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
