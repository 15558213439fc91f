"""Where the project is, and what happens when a tool that a test needs is missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def in_ci() -> bool:
    """Return whether the tests run in CI, where a missing tool is a failure instead of a reason to skip a test."""
    return os.environ.get("CI", "").lower() in ("1", "true")


def tool_is_missing(tool: str, how_to_install: str) -> NoReturn:
    """Fail the test in CI, where `.ci/run` installs every tool; skip it elsewhere."""
    if in_ci():
        pytest.fail(f"{tool} must be installed in CI; .ci/run installs it")
    pytest.skip(f"needs {tool}, which is not installed: {how_to_install}")
