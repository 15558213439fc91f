"""The estimators of the maximal correlation, and the direct computation that splines are compared with."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from pipeline.numerics.ace import AceEstimator, SplineAce, SupersmootherAce
from pipeline.numerics.spline_basis import spline_basis
from pipeline.numerics.spline_layer import N_FUNCTIONS, N_KNOTS
from pipeline.numerics.spline_solver import Smoothness, curvature_penalty

ESTIMATORS: dict[str, AceEstimator] = {"spline": SplineAce(), "supersmoother": SupersmootherAce()}
"""Both estimators with their default parameters, by name of the smoother."""


def spline_pair(
    x: np.ndarray, y: np.ndarray, fitted: np.ndarray, smoothness: Smoothness
) -> tuple[float, np.ndarray, np.ndarray]:
    """Solve one channel as a generalised eigenvalue problem, for comparison with the closed form.

    Parameters
    ----------
    x : ndarray of shape (n_images, n_components)
        Predictors at all images, whose quantiles determine the knots.
    y : ndarray of shape (n_images,)
        Response at all images.
    fitted : ndarray of int64
        Indices of the images that the transforms are fitted to.
    smoothness : Smoothness
        The penalties.

    Returns
    -------
    value : float
        The leading eigenvalue: the correlation shrunk by the penalties.
    phi : ndarray of shape (n_images, n_components)
        Transforms of the predictors at all images, up to a common factor.
    theta : ndarray of shape (n_images,)
        Transform of the response at all images, up to a factor.
    """
    n_components = x.shape[1]
    of_x, of_y = spline_basis(x.T, N_FUNCTIONS, N_KNOTS), spline_basis(y, N_FUNCTIONS, N_KNOTS)
    functions = np.concatenate([of_x.values.reshape(-1, len(y)), of_y.values])
    covariance = np.cov(functions[:, fitted], bias=True)
    penalty = curvature_penalty(of_x.roughness, smoothness.predictors)
    penalty = penalty + smoothness.shrinkage * np.arange(n_components)[:, None]
    both = np.concatenate([penalty.ravel(), curvature_penalty(of_y.roughness, smoothness.response)])
    n_x = n_components * N_FUNCTIONS
    within, across = covariance + np.diag(both + 1e-8), covariance.copy()
    within[:n_x, n_x:] = within[n_x:, :n_x] = 0
    across[:n_x, :n_x] = across[n_x:, n_x:] = 0
    values, vectors = eigh(across, within)
    a, b = vectors[:n_x, -1].reshape(n_components, N_FUNCTIONS), vectors[n_x:, -1]
    return float(values[-1]), np.einsum("jk,jkn->nj", a, of_x.values), b @ of_y.values
