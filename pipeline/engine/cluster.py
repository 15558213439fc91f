"""Ray: connect to a cluster or start one, and have its workers perform tasks."""

from __future__ import annotations

import errno
import logging
import os
import site
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pipeline
from pipeline.engine.task import Finished, Outcome, Task, perform_in_worker
from pipeline.errors import EngineError, SettingsError, StorageError
from pipeline.settings import RayEngine, Settings

POLL_SECONDS = 5.0  # after which the size of the cluster is looked up again, because nodes may have joined
CONNECT_SECONDS = 10.0  # after which a cluster counts as unreachable
OBJECT_STORE_BYTES = 100_000_000  # of a local cluster; about the smallest that Ray accepts, because tasks are small
# Variables of the command that say where weights and compiled code are.
PASSED = ("HF_HOME", "NUMBA_CACHE_DIR", "TORCH_HOME", "XDG_CACHE_HOME")


def check_installed() -> None:
    """Raise `SettingsError` if Ray is not installed."""
    if find_spec("ray") is None:
        raise SettingsError(
            "engine=ray must have its package installed; got none. Install it: pip install 'pcace[ray]'."
        )


def connect(settings: Settings, engine: RayEngine, note: Callable[[str], None]) -> Cluster:
    """Return the cluster, connected. A connection is kept until the process ends, for all runs in it.

    Raises
    ------
    SettingsError
        If Ray is not installed, there is no cluster at the address, or the machine is too small for a task.
    """
    check_installed()
    import ray

    if not ray.is_initialized():
        _initialise(engine.address)
    cluster = Cluster(settings, engine, note)
    if engine.address is None:
        cluster.check_size()
    return cluster


def _initialise(address: str | None) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    given: dict[str, Any] = {"address": "local" if address is None else address}
    if address is None:
        given |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    else:
        _check_address(address)
    root = Path(pipeline.__file__).parents[1]
    is_installed = str(root) in (*site.getsitepackages(), site.getusersitepackages())
    if not is_installed and "PYTHONPATH" not in os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", ""):
        # The package is imported from a checkout, which workers do not find by themselves.
        given["runtime_env"] = {"env_vars": {"PYTHONPATH": str(root)}}
    logging.getLogger("ray").setLevel(logging.ERROR)  # by default, it says on every start how it authenticates
    try:
        ray.init(**given, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if address is None:
            raise EngineError(f"Ray must start on this machine with engine=ray; got {reason}") from error
        raise _no_cluster(address, reason) from error


def _check_address(address: str) -> None:
    """Raise `SettingsError` if nothing listens at the address; Ray would try for a minute and then end this process."""
    used = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    host, _, port = used.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_cluster(used, error.strerror or "no answer") from error


def _no_cluster(address: str, reason: str) -> SettingsError:
    return SettingsError(
        f"engine.address must be the address of a running Ray cluster; got {address} ({reason.rstrip('.')}). "
        "Start it with `ray start --head`, or leave engine.address=null to start Ray for this run."
    )


class Cluster:
    """An `Executor` whose tasks are performed by the workers of Ray.

    At most twice as many tasks are submitted as the cluster can perform at a time, so that neither Ray nor this process
    holds more than a few of them. Nodes that join later get tasks as well.

    Parameters
    ----------
    settings, engine
        The settings of the run, and those of the engine in them.
    note : callable
        Called with a message of one line if a worker is lost, or no node can perform the tasks.
    """

    def __init__(self, settings: Settings, engine: RayEngine, note: Callable[[str], None]) -> None:
        self._settings, self._engine, self._note = settings, engine, note
        self._has_noted_size = False

    def check_size(self) -> None:
        """Raise `SettingsError` if this machine, the only node, has fewer CPUs or GPUs than a task needs."""
        import ray

        available = ray.cluster_resources()  # type: ignore[no-untyped-call]
        for name, resource, needed in (
            ("engine.num_cpus", "CPU", self._engine.num_cpus),
            ("engine.num_gpus", "GPU", self._engine.num_gpus or 0),
        ):
            most = available.get(resource, 0.0)
            if needed > most:
                raise SettingsError(
                    f"{name} must be at most {most:g}, the {resource}s of this machine; got {needed:g}. Lower it, or "
                    "set engine.address to a cluster."
                )

    def run(self, tasks: list[Task], finished: Finished) -> None:
        """Perform all tasks; see `pipeline.engine.task.Executor`."""
        import ray

        waiting = deque((task, 0) for task in tasks)
        running: dict[Any, tuple[Task, int]] = {}
        submit = self._submitter(tasks[0].runs_network)
        try:
            while waiting or running:
                most = max(2, 2 * self._n_slots(tasks[0].runs_network))
                while waiting and len(running) < most:
                    task, n_lost = waiting.popleft()
                    running[submit(task)] = task, n_lost
                done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
                for reference in done:
                    task, n_lost = running.pop(reference)
                    outcome = self._outcome(reference, task, n_lost)
                    if outcome is None:
                        waiting.appendleft((task, n_lost + 1))
                        continue
                    if outcome.error is not None:
                        raise _as_error(outcome, task)
                    finished(task)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _submitter(self, runs_network: bool) -> Callable[[Task], Any]:
        """Return the function that submits a task and returns Ray's reference to its outcome."""
        import ray

        n_gpus = self._n_gpus(runs_network)
        # Retries are not left to Ray, which would not say that a worker was lost.
        remote = ray.remote(num_cpus=self._engine.num_cpus, num_gpus=n_gpus, max_retries=0)(perform_in_worker)
        environment: Mapping[str, str] = {name: os.environ[name] for name in PASSED if name in os.environ}
        directory, search_path = os.getcwd(), [os.path.abspath(path) for path in sys.path]
        return lambda task: remote.remote(task, directory, search_path, environment)

    def _n_gpus(self, runs_network: bool) -> float:
        """Return the number of GPUs that a task needs."""
        if not runs_network:
            return 0.0
        if self._engine.num_gpus is not None:
            return self._engine.num_gpus
        from pipeline.networks.load import resolve_device  # imported here because torch takes seconds

        return 1.0 if resolve_device(self._settings.model).type == "cuda" else 0.0

    def _n_slots(self, runs_network: bool) -> int:
        """Return the number of tasks that the cluster can perform at a time."""
        import ray

        n_gpus, slots = self._n_gpus(runs_network), 0
        for node in ray.nodes():  # type: ignore[no-untyped-call]
            if node["Alive"]:
                room = node["Resources"].get("CPU", 0.0) / self._engine.num_cpus
                slots += int(min(room, node["Resources"].get("GPU", 0.0) / n_gpus) if n_gpus else room)
        if slots < 1 and not self._has_noted_size:
            self._has_noted_size = True
            needed = f"engine.num_cpus={self._engine.num_cpus}" + (f" and engine.num_gpus={n_gpus:g}" if n_gpus else "")
            self._note(f"no node of the Ray cluster has {needed}, which a task needs; waiting for one.")
        return slots

    def _outcome(self, reference: Any, task: Task, n_lost: int) -> Outcome | None:
        """Return what became of a task; None if its worker was lost and it has to be computed again."""
        import ray
        from ray import exceptions

        try:
            found: Outcome = ray.get(reference)
        except exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, ImportError):
                raise _not_installed(cause) from error
            raise
        except exceptions.RuntimeEnvSetupError as error:
            raise EngineError(f"Ray must start workers with engine=ray; got {_first_line(error)}") from error
        except exceptions.RayError as error:
            if isinstance(error, exceptions.RaySystemError) and "ModuleNotFoundError" in str(error):
                raise _not_installed(error) from error
            reason = _lost_because(error)
            if n_lost >= self._engine.retries:
                raise EngineError(
                    f"workers must finish their tasks; got {n_lost + 1} lost workers for {task.label} ({reason}). Run "
                    "again, which computes only what is missing; if memory was short, lower engine.images_per_task and "
                    "engine.channels_per_task."
                ) from error
            self._note(
                f"the worker that computed {task.label} was lost ({reason}); another one computes them again "
                f"(attempt {n_lost + 2} of {self._engine.retries + 1})."
            )
            return None
        return found


def _lost_because(error: BaseException) -> str:
    """Return in a few words why a worker was lost."""
    from ray import exceptions

    if isinstance(error, exceptions.OutOfMemoryError):
        return "out of memory"
    if isinstance(error, exceptions.NodeDiedError | exceptions.LocalRayletDiedError):
        return "its node was lost"
    if isinstance(error, exceptions.WorkerCrashedError):
        return "its process ended"
    return type(error).__name__


def _not_installed(error: BaseException) -> SettingsError:
    return SettingsError(
        f"pcace must be installed on all nodes of the Ray cluster; got {_first_line(error)}. Install it there, in the "
        "same version, or use one installation on a shared disk."
    )


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    named = [line for line in lines if "ModuleNotFoundError" in line]
    return (named or lines or [type(error).__name__])[0].strip().rstrip(".")


def _as_error(outcome: Outcome, task: Task) -> BaseException:
    """Return the error of a task as that of the run, with the node if it is an error of its disk."""
    error = outcome.error
    assert error is not None
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"the disk must have room for {task.label}; got a full disk ({task.folder.parent} on node {outcome.host}). "
            "Free some space, and run again: finished parts and stages are kept."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return StorageError(
            f"all nodes must be able to read and write the store and the images; got {error.strerror} "
            f"({error.filename} on node {outcome.host}). Put them on a disk that all nodes share."
        )
    return error
