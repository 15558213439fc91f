"""Which code and which machine a run is made with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pipeline

PACKAGES = ("numpy", "scikit-learn", "ace", "torch", "torchvision", "pandas", "pillow")


def git_state() -> dict[str, str]:
    """Return the commit of the checkout that the package runs from and whether it is dirty; empty outside of git."""
    folder = Path(pipeline.__file__).resolve().parent
    if not (folder.parent / ".git").exists():  # an installed wheel may lie inside somebody else's checkout
        return {}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(bool(git("status", "--porcelain"))).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}


def environment() -> dict[str, str]:
    """Return versions and the machine's kind, as far as they can move a result."""
    return {
        "pcace": pipeline.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "system": platform.system(),
        "n_cpus": str(os.cpu_count()),
    }
