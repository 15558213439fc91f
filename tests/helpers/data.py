"""The benchmark data: photographs, weights and tables that are not part of the repository.

They are read from the folder in the environment variable ``PCACE_TEST_DATA``, by default ``../shared/data`` beside the
checkout. CONTRIBUTING.md says where to get them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.helpers.project import ROOT

VARIABLE = "PCACE_TEST_DATA"


def data_folder() -> Path:
    """Return the folder of the benchmark data, which need not exist."""
    return Path(os.environ.get(VARIABLE) or ROOT.parent / "shared" / "data")


def benchmark_data(name: str) -> Path:
    """Return the path of a file or folder of the benchmark data; skip the test if it does not exist.

    Parameters
    ----------
    name : str
        Path relative to the folder of the benchmark data, for example ``cifar10``.
    """
    path = data_folder() / name
    if not path.exists():
        pytest.skip(
            f"needs benchmark data: {path} does not exist; set {VARIABLE} to the folder that contains {name} "
            "(CONTRIBUTING.md, section Tests, says where to get it)"
        )
    return path
