"""ACE by the PyPI package ``ace``: the reference, one channel at a time."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from ace.ace import ACESolver
from joblib import Parallel, delayed
from numpy.typing import NDArray

from pipeline.numerics.ace import AceResult, Progress, checked_predictors, checked_response

FloatArray = NDArray[np.floating[Any]]


def optimal_transforms(
    predictors: FloatArray,
    response: FloatArray,
    *,
    delrsq: float = 0.01,
    maxit: int = 20,
    nterm: int = 3,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> AceResult:
    """Return what `pipeline.numerics.ace.optimal_transforms` does with ``bass=0``, in `n_jobs` processes.

    Raises
    ------
    InputError
        Where that one does: the package would silently return NaN.

    References
    ----------
    https://pypi.org/project/ace/
    """
    predictors = checked_predictors(predictors)
    response = checked_response(response, predictors.shape[1])
    fits = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_fit)(channel, response, delrsq, maxit, nterm) for channel in predictors
    )
    rows = []
    for n_done, fit in enumerate(fits, start=1):
        rows.append(fit)
        if progress is not None:
            progress(n_done, len(predictors))
    return AceResult(*map(np.array, zip(*rows, strict=True)))


def _fit(
    channel: FloatArray, response: FloatArray, delrsq: float, maxit: int, nterm: int
) -> tuple[float, float, float, int, FloatArray, FloatArray]:
    solver = ACESolver(delrsq=delrsq, maxit=maxit, nterm=nterm)
    solver.specify_data_set(list(channel.T), response)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a line per iteration
        solver.solve()
    phi, theta = np.stack(solver.x_transforms, axis=1), np.asarray(solver.y_transform)
    maximal, first = _correlation(phi.sum(axis=1), theta), abs(_correlation(phi[:, 0], theta))
    return maximal, first, float(solver.rsq), int(solver._outer_iters), phi, theta


def _correlation(a: FloatArray, b: FloatArray) -> float:
    """Return Pearson's correlation, 0 where one of the two is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0
