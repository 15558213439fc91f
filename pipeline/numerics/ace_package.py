"""ACE by the PyPI package ``ace``: the reference, one channel at a time."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from ace.ace import ACESolver
from numpy.typing import NDArray

from pipeline.errors import InputError

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ChannelFit:
    """What ACE found for one channel; see `pipeline.artifacts.ChannelScores` for the meaning of each."""

    maximal: float
    first: float
    r_squared: float
    iterations: int
    phi: FloatArray
    theta: FloatArray


def fit_channel(
    projections: FloatArray, class_score: FloatArray, *, delrsq: float, maxit: int, nterm: int
) -> ChannelFit:
    """Return the optimal transforms of one channel's components and of the class score, and how they correlate.

    ``maximal = corr(phi_1 + ... + phi_p, theta)`` and ``first = abs(corr(phi_1, theta))``.

    Parameters
    ----------
    projections : ndarray of shape (n_images, n_components)
        A component that never varies gets phi = 0.
    class_score : ndarray of shape (n_images,)
        Must vary.
    delrsq, maxit, nterm : float, int, int
        Stop when R squared moved by at most `delrsq` over `nterm` outer rounds, or after `maxit` of them.

    Raises
    ------
    InputError
        If a value is not finite, or the class score is constant: the package would silently return NaN.

    References
    ----------
    Breiman and Friedman (1985), "Estimating optimal transformations for multiple regression and correlation",
    JASA 80(391); https://pypi.org/project/ace/.
    """
    if not (np.isfinite(projections).all() and np.isfinite(class_score).all()):
        raise InputError("projections and class scores must be finite; got NaN or infinity. Check the activations.")
    if np.ptp(class_score) == 0:
        raise InputError(f"class scores must differ between images; got {class_score[0]:g} for every one.")
    solver = ACESolver(delrsq=delrsq, maxit=maxit, nterm=nterm)
    solver.specify_data_set(list(projections.T), class_score)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a line per iteration
        solver.solve()
    phi, theta = np.stack(solver.x_transforms, axis=1), np.asarray(solver.y_transform)
    return ChannelFit(
        maximal=_correlation(phi.sum(axis=1), theta),
        first=abs(_correlation(phi[:, 0], theta)),
        r_squared=float(solver.rsq),
        iterations=int(solver._outer_iters),
        phi=phi,
        theta=theta,
    )


def _correlation(a: FloatArray, b: FloatArray) -> float:
    """Return Pearson's correlation, 0 where one of the two is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0
