"""``pcace ui``: start the MLflow user interface, on the loopback address, with the logged runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from pipeline.command_line import command
from pipeline.config import compose_settings
from pipeline.errors import InputError, StorageError
from pipeline.imports import import_for_command
from pipeline.settings import Settings

USAGE = """Usage: pcace ui [--port=N] [paths.outputs=FOLDER] [tracking.uri=ADDRESS]

Starts MLflow on 127.0.0.1, on port N (by default 5000, or the next port that is free), with the runs that have been
logged, and prints the addresses of the latest run's report and of the latest sweep's comparison. Ctrl-C stops it. If
tracking.uri is the address of a server, no other one is started."""

START_SECONDS = 60.0  # time within which the server must answer


def free_port(first: int = 5000, n_tried: int = 100) -> int:
    """Return the first free port of 127.0.0.1 among `n_tried` ports from `first` on.

    Raises
    ------
    StorageError
        If none of them is free.
    """
    for port in range(first, first + n_tried):
        with socket.socket() as candidate:
            if candidate.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise StorageError(
        f"a port of 127.0.0.1 must be free; got none in [{first}, {first + n_tried - 1}]. Choose one with --port=N."
    )


def addresses(settings: Settings, root: str) -> list[tuple[str, str]]:
    """Return the pages to look at first, each as its name and its address below `root`."""
    from pipeline.run_folder import NETWORK_PAGE, REPORT
    from pipeline.tracking.comparison import PAGE
    from pipeline.tracking.connection import open_store, tracking_errors
    from pipeline.tracking.runs import NETWORK, comparison_of, experiment_id, latest_sweep, network_runs, ranked_runs

    client, uri = open_store(Path(settings.paths.outputs), settings.tracking.uri)
    found = []
    with tracking_errors(uri):
        experiment = experiment_id(client, settings.tracking.experiment, uri)
        runs = ranked_runs(client, experiment)
        if runs:
            run_id = runs[0].info.run_id
            found.append(("latest report", f"{root}/#/experiments/{experiment}/runs/{run_id}/artifacts/{REPORT}"))
        networks = network_runs(client, experiment)
        if networks:
            run_id = networks[0].info.run_id
            address = f"{root}/#/experiments/{experiment}/runs/{run_id}/artifacts/{NETWORK_PAGE}"
            found.append(("latest network", address))
            address = _filtered(root, experiment, f"tags.{NETWORK} = '{run_id}'", "CHART")
            found.append(("latest network, layers", address))
        sweep = latest_sweep(client, experiment)
        if sweep is not None:
            for name, mode in (("latest sweep, tables", "ARTIFACT"), ("latest sweep, curves", "CHART")):
                found.append((name, _filtered(root, experiment, f"tags.sweep = '{sweep}'", mode)))
            compared = comparison_of(client, experiment, sweep)
            if compared is not None:
                address = f"{root}/#/experiments/{experiment}/runs/{compared}/artifacts/{PAGE}"
                found.append(("latest sweep, page", address))
    return found


def _filtered(root: str, experiment: str, condition: str, mode: str) -> str:
    """Return the address of the view that compares the runs that fulfil a condition."""
    query = {"workflowType": "machine_learning", "searchFilter": condition, "compareRunsMode": mode}
    options = urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
    return f"{root}/#/experiments/{experiment}/runs?{options}"


def wait_until_up(root: str, server: subprocess.Popen[bytes]) -> None:
    """Return when the server answers; raise `StorageError` if it ends first, or does not answer in time."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{root}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise StorageError(f"MLflow's server must start; got no answer on {root}. See its messages above.")


def requested_port(arguments: list[str]) -> tuple[int | None, list[str]]:
    """Return the port that ``--port=N`` requests, or None without this option, and the other arguments."""
    ports = [each.removeprefix("--port=") for each in arguments if each.startswith("--port=")]
    for port in ports:
        if not (port.isdecimal() and 0 < int(port) < 2**16):
            raise InputError(f"--port must be in [1, 65535]; got {port}.")
    return (int(ports[-1]) if ports else None), [each for each in arguments if not each.startswith("--port=")]


def print_addresses(server: str, pages: Sequence[tuple[str, str]]) -> None:
    """Print where the server is, and the pages to look at first."""
    print(f"MLflow on {server}")
    for name, address in pages:
        print(f"  {name:<22} {address}")
    sys.stdout.flush()


def serve(settings: Settings, port: int | None) -> int:
    """Start the server, print the addresses to look at, wait until the server ends, and return its exit code."""
    import_for_command("pipeline.tracking.comparison")
    from pipeline.tracking.connection import tracking_uri

    uri = tracking_uri(Path(settings.paths.outputs), settings.tracking.uri)
    if uri.startswith(("http://", "https://")):  # a server that is running already
        print_addresses(uri.rstrip("/"), addresses(settings, uri.rstrip("/")))
        return 0
    root = f"http://127.0.0.1:{port or free_port()}"
    shown = addresses(settings, root)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    # Requests are not logged, so that the addresses stay on the screen.
    command += ["--host", "127.0.0.1", "--port", root.rpartition(":")[2], "--workers", "1"]
    command += ["--uvicorn-opts", "--log-level warning"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the server is ended as well
    server = subprocess.Popen(command, env={**os.environ, **quiet})
    try:
        wait_until_up(root, server)
        print_addresses(f"{root} (Ctrl-C stops it)", shown)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()


@command
def main() -> None:
    """Serve the user interface until Ctrl-C."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(USAGE)
        return
    port, overrides = requested_port(sys.argv[1:])
    sys.exit(serve(compose_settings(overrides), port))


if __name__ == "__main__":
    main()
