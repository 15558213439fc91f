"""The code and the machine that a run is made with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from threadpoolctl import threadpool_info

import pipeline

PACKAGES = (
    "numpy", "scipy", "numba", "scikit-learn", "ace", "torch", "torchvision", "captum", "pandas", "pillow",
)  # fmt: skip
OPTIONAL_PACKAGES = ("timm",)  # extras


def git_state() -> dict[str, str]:
    """Return the commit of the checkout that the package runs from and whether it is dirty; empty outside of git."""
    folder = Path(pipeline.__file__).resolve().parent
    if not (folder.parent / ".git").exists():  # an installed wheel may lie inside somebody else's checkout
        return {}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        # What DVC writes as it goes (its lock, the composed parameters) is no change of the code.
        changed = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!params.yaml")
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(bool(changed)).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}


def environment() -> dict[str, str]:
    """Return the versions and the properties of the machine that can change a result."""
    return {
        "pcace": pipeline.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        **{name: found for name in OPTIONAL_PACKAGES if (found := _version(name)) is not None},
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu(),
        "n_cpus": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "threads": _threads(),
    }


def packages() -> dict[str, str]:
    """Return the version of every installed package, by name."""
    found = {distribution.metadata["Name"]: distribution.version for distribution in distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _version(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the processor's model as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _threads() -> str:
    """Return how many threads each numerical library of this process may use, e.g. ``openblas 2, openmp 2``."""
    pools = {(pool["internal_api"], pool["num_threads"]) for pool in threadpool_info()}
    return ", ".join(f"{name} {n_threads}" for name, n_threads in sorted(pools))
