"""Logging of runs to MLflow, and reading them back. Only this package imports MLflow."""

import os

# Set before any module of this package imports MLflow: its telemetry connects to servers on the internet, and its
# messages and progress bars would disturb the console's.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
