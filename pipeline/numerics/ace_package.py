"""ACE by the PyPI package ``ace``, the reference implementation, one channel at a time."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from ace.ace import ACESolver
from joblib import Parallel, delayed

from pipeline.arrays import FloatArray
from pipeline.errors import InputError
from pipeline.numerics.ace import AceResult
from pipeline.numerics.checks import checked_predictors, checked_response
from pipeline.numerics.parameters import AceParameters
from pipeline.numerics.predictors import Predictors
from pipeline.progress import Progress

PACKAGE_PARAMETERS = AceParameters(bass=0.0)  # `bass` and `spans` are fixed in the package


def optimal_transforms(
    predictors: FloatArray | Predictors,
    response: FloatArray,
    *,
    parameters: AceParameters = PACKAGE_PARAMETERS,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> AceResult:
    """Return what `pipeline.numerics.ace.optimal_transforms` returns, with the supersmoother,
    computed by the package in `n_jobs` processes.

    Parameters
    ----------
    predictors, response, progress
        As in `pipeline.numerics.ace.optimal_transforms`.
    parameters : AceParameters
        `bass` and `spans` must be those of `PACKAGE_PARAMETERS`, which are fixed in the package.
    n_jobs : int
        Number of processes; -1 for one for each core.

    Raises
    ------
    InputError
        If the input is one that the compiled solver refuses (the package would silently return NaN), or if `bass` or
        `spans` are not the package's.

    References
    ----------
    https://pypi.org/project/ace/
    """
    fixed = PACKAGE_PARAMETERS
    if (parameters.bass, parameters.spans) != (fixed.bass, fixed.spans):
        raise InputError(
            f"bass must be {fixed.bass:g} and spans {fixed.spans} for the `ace` package; "
            f"got {parameters.bass:g} and {parameters.spans}."
        )
    values = checked_predictors(predictors)
    response = checked_response(response, values.shape[1])
    fits = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_fit)(channel, response, parameters) for channel in values
    )
    rows = []
    for n_done, fit in enumerate(fits, start=1):
        rows.append(fit)
        if progress is not None:
            progress(n_done, len(values))
    maximal, first, r_squared, iterations, phi, theta = map(np.array, zip(*rows, strict=True))
    return AceResult({"maximal": maximal, "first": first}, r_squared, phi, theta, iterations=iterations)


def _fit(
    channel: FloatArray, response: FloatArray, parameters: AceParameters
) -> tuple[float, float, float, int, FloatArray, FloatArray]:
    solver = ACESolver(delrsq=parameters.delrsq, maxit=parameters.maxit, nterm=parameters.nterm)
    solver.specify_data_set(list(channel.T), response)
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints a line for each iteration
        solver.solve()
    phi, theta = np.stack(solver.x_transforms, axis=1), np.asarray(solver.y_transform)
    maximal, first = _correlation(phi.sum(axis=1), theta), abs(_correlation(phi[:, 0], theta))
    return maximal, first, float(solver.rsq), int(solver._outer_iters), phi, theta


def _correlation(a: FloatArray, b: FloatArray) -> float:
    """Return the Pearson correlation, 0 where one of the two is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0
