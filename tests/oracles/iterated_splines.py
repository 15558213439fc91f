"""ACE as Breiman and Friedman iterate it, with a penalised spline as the smoother: dense matrices and SciPy, slow.

It shares no code with `pipeline.numerics`: the splines are SciPy's natural cubic splines through unit vectors at the
knots, their roughness is integrated numerically, and the transforms are found by backfitting until nothing changes.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.linalg import eigh


def knots_of(x: np.ndarray, n_knots: int) -> np.ndarray:
    """Return nine tenths of the quantile and one tenth of equal spacing."""
    even = np.linspace(0, 1, n_knots)
    return 0.9 * np.quantile(x, even) + 0.1 * (x.min() + even * (x.max() - x.min()))


def smoother_matrix(x: np.ndarray, n_knots: int, curvature: float, shrinkage: float) -> np.ndarray:
    """Return the matrix that smooths a centred variable against x, (n_images, n_images)."""
    spline = CubicSpline(knots_of(x, n_knots), np.eye(n_knots), bc_type="natural")
    design = spline(x)
    design -= design.mean(axis=0)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    ends = spline.x
    middle, half = (ends[1:] + ends[:-1]) / 2, np.diff(ends) / 2
    bending = spline((middle[:, None] + half[:, None] * nodes).ravel(), 2)
    roughness = (bending.T * (half[:, None] * weights).ravel()) @ bending
    # The constant is lost by centring: take the space without its direction.
    basis = np.linalg.svd(design, full_matrices=False)[2][: n_knots - 1].T
    variance, roughness = basis.T @ (design.T @ design / len(x)) @ basis, basis.T @ roughness @ basis
    smoothest = eigh(roughness, variance, eigvals_only=True)[1]
    penalty = roughness * (1 - curvature) / curvature / smoothest + shrinkage * variance
    projected = design @ basis
    return projected @ np.linalg.solve(variance + penalty, projected.T) / len(x)


def iterated(
    x: np.ndarray, y: np.ndarray, n_knots: int, curvatures: tuple[float, float], shrinkage: float, tolerance: float
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Return singular value, correlation, phi, (n_images, n_components), and theta, (n_images,)."""
    smoothers = [smoother_matrix(x[:, j], n_knots, curvatures[0], shrinkage * (j + 1)) for j in range(x.shape[1])]
    smoother = smoother_matrix(y, n_knots, curvatures[1], 0.0)
    theta = (y - y.mean()) / y.std()
    phi = np.zeros(x.shape)
    for _ in range(10_000):
        for _ in range(10_000):
            before = phi.copy()
            for j, each in enumerate(smoothers):
                phi[:, j] = each @ (theta - phi.sum(axis=1) + phi[:, j])
            if np.abs(phi - before).max() < tolerance:
                break
        new = smoother @ phi.sum(axis=1)
        square = new.std()
        if np.abs(new / square - theta).max() < tolerance:
            break
        theta = new / square
    return float(np.sqrt(square)), float(np.corrcoef(phi.sum(axis=1), theta)[0, 1]), phi, theta
