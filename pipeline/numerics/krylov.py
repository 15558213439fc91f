"""Leading eigenvectors of a large symmetric matrix that is known only by its products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from pipeline.arrays import Float64Array

MORE = 10  # vectors in a block, besides those that are wanted
MOST_BLOCKS = 20
TOLERANCE = 1e-6  # of the residual, as a share of the largest eigenvalue
SMALLEST = 1e-12  # share of the largest eigenvalue, below which one is rounding


@dataclass(frozen=True)
class Eigenpairs:
    """Leading eigenvalues and eigenvectors, approximately.

    Attributes
    ----------
    values : ndarray of shape (n_wanted,)
        Eigenvalues, largest first; 0 where they are below `SMALLEST` times the largest.
    vectors : ndarray of shape (size, n_wanted)
        Orthonormal vectors; 0 where the eigenvalue is 0.
    residual : float
        The largest norm of A v - l v over the pairs of an eigenvalue l and a vector v, divided by the largest
        eigenvalue. The eigenvalues of A nearest to the values found differ from them by at most this share of the
        largest, and mostly by its square.
    """

    values: Float64Array
    vectors: Float64Array
    residual: float


def leading_eigenpairs(
    times: Callable[[Float64Array], Float64Array], size: int, n_wanted: int, *, tolerance: float = TOLERANCE
) -> Eigenpairs:
    """Return the leading eigenpairs of a symmetric matrix A without negative eigenvalues.

    They are the best ones in the space that is spanned by a block of random vectors X and A X, A^2 X, and so on (a
    block Krylov space), which is enlarged until they are accurate enough.

    Parameters
    ----------
    times : callable
        From a matrix of shape (size, n) to A times this matrix.
    size : int
        Number of rows of A; much larger than `n_wanted`.
    n_wanted : int
        Number of eigenpairs.
    tolerance : float
        Largest residual, at which the space is not enlarged any more; see `Eigenpairs.residual`. There are at most
        `MOST_BLOCKS` products with A.

    Notes
    -----
    The random vectors are always the same, so that the result is determined by A.

    References
    ----------
    Musco and Musco (2015), "Randomized block Krylov methods for stronger and faster approximate singular value
    decomposition"; Halko, Martinsson and Tropp (2011), "Finding structure with randomness", SIAM Review 53(2).
    """
    width = min(n_wanted + MORE, size)
    new = np.linalg.qr(np.random.default_rng(0).normal(size=(size, width)))[0]
    basis, image = np.empty((size, 0)), np.empty((size, 0))
    for _ in range(MOST_BLOCKS):
        basis, image = np.hstack([basis, new]), np.hstack([image, times(new)])
        projected = basis.T @ image
        found = _pairs(basis, image, linalg.eigh((projected + projected.T) / 2, check_finite=False), n_wanted)
        if found.residual <= tolerance or basis.shape[1] + width > size:
            break
        new = _orthonormal(image[:, -new.shape[1] :], basis)
        if not new.shape[1]:  # the space contains A times itself, so that the pairs are exact
            break
    return found


def _pairs(
    basis: Float64Array, image: Float64Array, pairs: tuple[Float64Array, Float64Array], n_wanted: int
) -> Eigenpairs:
    """Return the leading eigenpairs in the space of `basis`, which A maps to `image`."""
    values, inner = pairs[0][::-1][:n_wanted], pairs[1][:, ::-1][:, :n_wanted]
    values = np.where(values > SMALLEST * values[0], values, 0.0)
    inner = inner * (values > 0)
    vectors = basis @ inner
    norms = np.linalg.norm(image @ inner - vectors * values, axis=0)
    return Eigenpairs(values, vectors, float(norms.max() / values[0]) if values[0] > 0 else 0.0)


def _orthonormal(block: Float64Array, basis: Float64Array) -> Float64Array:
    """Return an orthonormal basis of what is in `block` and not in the space of the orthonormal `basis`."""
    scale = np.linalg.norm(block, axis=0)
    block = block[:, scale > 0] / scale[scale > 0]
    for _ in range(2):  # the first time leaves rounding errors
        block = block - basis @ (basis.T @ block)
    vectors, triangle, _ = linalg.qr(block, mode="economic", pivoting=True, check_finite=False)
    vectors = vectors[:, np.abs(np.diag(triangle)) > np.sqrt(np.finfo(np.float64).eps) * 1e-4]
    vectors = vectors - basis @ (basis.T @ vectors)
    return np.linalg.qr(vectors)[0] if vectors.shape[1] else vectors
