"""``python -m pipeline.ui``: MLflow's pages on this machine's loopback, over the runs made here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from pipeline.config import compose_settings
from pipeline.errors import PipelineError, StorageError
from pipeline.job import report
from pipeline.tracking.mlflow import DATABASE, tracking_uri

USAGE = """Usage: python -m pipeline.ui [paths.outputs=FOLDER] [tracking.uri=ADDRESS]

Starts MLflow on 127.0.0.1, on port 5000 or the next free one, over the runs logged so far. Ctrl-C ends it."""


def free_port(first: int = 5000, n_tried: int = 100) -> int:
    """Return the first port of 127.0.0.1, from `first` on, that nobody listens on."""
    for port in range(first, first + n_tried):
        with socket.socket() as candidate:
            if candidate.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise StorageError(f"a port must be free on 127.0.0.1; got none in {first} to {first + n_tried - 1}.")


def main() -> None:
    """Serve until stopped."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(USAGE)
        return
    try:
        settings = compose_settings(sys.argv[1:])
        outputs = Path(settings.paths.outputs)
        uri = tracking_uri(outputs, settings.tracking.uri)
        if settings.tracking.uri is None and not (outputs / DATABASE).exists():
            raise StorageError(f"runs must have been logged to {outputs}; got none. Make one: python -m pipeline.")
        port = free_port()
    except PipelineError as error:
        report(error)
        sys.exit(1)
    print(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    try:
        sys.exit(subprocess.call(command, env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
