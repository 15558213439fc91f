"""Compilation of the solver before the tests begin."""

from __future__ import annotations

import numpy as np

from pipeline.numerics.ace import optimal_transforms, permuted_correlations
from pipeline.numerics.pca import reduce_channels


def compile_solver() -> None:
    """Compile the functions of the solver, or find them in the cache on disk.

    Without this, every worker of pytest-xdist would compile them, at the same time, where the cache is empty.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 20, 2)), rng.normal(size=20)
    optimal_transforms(x, y)
    permuted_correlations(x, y, np.array([rng.permutation(20) for _ in range(9)]))
    for dtype in (np.float32, np.float64):
        reduce_channels(rng.normal(size=(2, 20, 3, 3)).astype(dtype), 2)
