"""Clusters of SLURM and Ray with this machine as their only node, which run as long as a test needs them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={n_cpus} RealMemory=8000 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(n_ports: int) -> list[int]:
    """Return ports of 127.0.0.1 on which no process listens."""
    sockets = [socket.socket() for _ in range(n_ports)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait_until(condition: Callable[[], bool], description: str, seconds: float = 60) -> None:
    """Return as soon as `condition` returns true; fail the test after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{description}: not within {seconds:g} s"
        time.sleep(0.1)


def end(pid: int, seconds: float = 10) -> None:
    """Terminate a process and its children; kill those that are still running after `seconds`."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGTERM)
        for each in psutil.wait_procs(family, timeout=seconds)[1]:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def has_slurm() -> bool:
    """Return whether SLURM and munge are installed."""
    return all(shutil.which(name) for name in ("munged", "slurmctld", "slurmd", "sbatch"))


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run SLURM within the context; yield the environment variables with which its commands find it."""
    host = socket.gethostname().partition(".")[0]
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    os.chmod(folder / "munge", 0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller_port, node_port = free_ports(2)
    conf = folder / "slurm.conf"
    conf.write_text(
        SLURM_CONF.format(
            host=host, folder=folder, controller_port=controller_port, node_port=node_port,
            n_cpus=os.cpu_count(),
        )
    )  # fmt: skip
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    files = {name: folder / "munge" / name for name in ("socket", "pid", "log", "seed")}
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={files['socket']}"]
    munged += [f"--pid-file={files['pid']}", f"--log-file={files['log']}", f"--seed-file={files['seed']}"]
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("wb") as out:
            started.append(subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT))

    def is_idle() -> bool:
        state = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True)
        return state.stdout.strip() == "idle"

    try:
        start(*munged)
        wait_until(files["socket"].exists, "munged has made its socket")
        start("slurmctld", "-D", "-i")
        start("slurmd", "-D", "-N", host)
        wait_until(is_idle, "SLURM's node is idle")
        yield environment
    finally:
        for process in reversed(started):
            end(process.pid)
            process.wait()


def can_mount() -> bool:
    """Return whether this process may mount file systems in a namespace of its own."""
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


# Gives a node a view of a shared folder in which nothing can be written, because the disk is full: an overlay on it.
FULL_DISK = """
set -e
mount -t tmpfs -o size=64k tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=$0,upperdir=$1/upper,workdir=$1/work" "$0"
dd if=/dev/zero of="$1/filler" bs=1k 2> /dev/null || true
shift
exec "$@"
"""


class RayCluster:
    """Ray on this machine; see `ray`.

    Attributes
    ----------
    environment : dict of str to str
        The environment variables with which ``address=auto`` finds it.
    """

    def __init__(self, folder: Path, port: int, environment: dict[str, str]) -> None:
        self._folder, self._port, self._n_nodes = folder, port, 0
        self._environment = environment
        self.environment = {**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}

    @contextmanager
    def node(self, n_cpus: int, *, is_head: bool = False, full_disk: Path | None = None) -> Iterator[None]:
        """Run a node within the context; with `full_disk`, it cannot write into this folder."""
        self._n_nodes += 1
        log = self._folder / f"ray{self._n_nodes}.out"
        place = f"--port={self._port}" if is_head else f"--address=127.0.0.1:{self._port}"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *(["--head"] if is_head else []), "--block"]
        command += [place, "--node-ip-address=127.0.0.1", f"--num-cpus={n_cpus}", "--disable-usage-stats"]
        command += ["--include-dashboard=false"] if is_head else []
        command += ["--object-store-memory=100000000"]
        # Ray makes sockets deep below its folder, and the path of a socket can have at most 107 characters.
        with TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as temporary:
            command += [f"--temp-dir={temporary}"] if is_head else []
            if full_disk is not None:
                command = ["unshare", "-m", "sh", "-c", FULL_DISK, str(full_disk), temporary, *command]
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command, env=self._environment, cwd=self._folder, stdout=out, stderr=subprocess.STDOUT
                )
            try:
                wait_until(lambda: b"Ray runtime started" in log.read_bytes(), "Ray has started", 120)
                yield
            finally:
                end(process.pid, seconds=1)  # by itself, Ray would wait half a minute until the node has no work
                process.wait()


@contextmanager
def ray(folder: Path, n_cpus: int = 2) -> Iterator[RayCluster]:
    """Run Ray within the context, with one node."""
    (port,) = free_ports(1)
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    cluster = RayCluster(folder, port, environment)
    with cluster.node(n_cpus, is_head=True):
        yield cluster
