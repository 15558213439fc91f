"""Linear systems and leading eigenvectors of many small symmetric matrices, compiled.

A call of LAPACK for one matrix of this size takes several times as long as its arithmetic. Here `N_LANES` matrices are
computed together, one in each lane of the vector registers. The operations in a lane do not depend on the others, so
that the result for a matrix has the same bits whatever is computed with it.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.arrays import Float64Array, FloatArray
from pipeline.numerics.compiled import compiled, inlined
from pipeline.numerics.lanes import N_LANES, aligned_zeros, any_of, elements, where

MOST_SWEEPS = 60  # over the elements outside of the diagonal; matrices of 4 rows take 3 to 5, of 30 rows about 10
# A matrix counts as diagonal when the squares outside of its diagonal sum up to this share of those on it.
SMALLEST_REST = 1e-34


def solve(matrices: FloatArray, diagonals: FloatArray, right: FloatArray) -> Float64Array:
    """Solve ``(A_i + D_hi) X_hi = B_i`` for all matrices A_i and, for each, several diagonal matrices D_hi.

    It is the Cholesky decomposition, in the order of Cholesky and Banachiewicz.

    Parameters
    ----------
    matrices : ndarray of shape (..., q, q)
        Finite and symmetric; only the lower triangles are read. The sums must be positive definite.
    diagonals : ndarray of shape (m, ..., q)
        Diagonals of the matrices D_hi.
    right : ndarray of shape (..., q, k)
        The right-hand sides B_i.

    Returns
    -------
    ndarray of shape (m, ..., q, k)

    Raises
    ------
    numpy.linalg.LinAlgError
        If a solution is not finite, because a sum is not positive definite or a value is not finite.
    """
    n_rows, n_right = right.shape[-2:]
    solved = np.empty((*diagonals.shape, n_right))
    n_matrices = right[..., 0, 0].size
    # The right-hand sides follow the matrix as further rows, which the decomposition turns into the solution of the
    # first of the two triangular systems.
    given, found = (aligned_zeros((n_rows + n_right, n_rows, N_LANES)) for _ in range(2))
    _solve(
        _contiguous(matrices).reshape(n_matrices, n_rows, n_rows),
        _contiguous(diagonals).reshape(len(diagonals), n_matrices, n_rows),
        _contiguous(right).reshape(n_matrices, n_rows, n_right),
        solved.reshape(len(diagonals), n_matrices, n_rows, n_right),
        given,
        aligned_zeros((1, n_rows, N_LANES)),
        found,
    )
    if not np.isfinite(solved).all():
        raise np.linalg.LinAlgError("matrices with their diagonals must be finite and positive definite.")
    return solved


def leading_eigenpairs(matrices: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return the largest eigenvalue of symmetric matrices and its eigenvector, by Jacobi's method.

    Parameters
    ----------
    matrices : ndarray of shape (..., k, k)
        Finite, symmetric and positive semidefinite.

    Returns
    -------
    values : ndarray of shape (...)
    vectors : ndarray of shape (..., k)
        Of length 1, with either sign.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a value is not finite.
    """
    if not np.isfinite(matrices).all():
        raise np.linalg.LinAlgError("matrices must be finite.")
    *axes, size, _ = matrices.shape
    values, vectors = np.empty(axes), np.empty((*axes, size))
    given, found = (aligned_zeros((size, size, N_LANES)) for _ in range(2))
    _leading(_contiguous(matrices).reshape(-1, size, size), values.reshape(-1), vectors.reshape(-1, size), given, found)
    return values, vectors


def _contiguous(values: FloatArray) -> Float64Array:
    """Return an array of the only type for which the functions are compiled."""
    return np.require(values, dtype=np.float64, requirements=["C", "W"])


@compiled
def _solve(matrices, diagonals, right, solved, given, diagonal, found):
    """Fill `solved`, given scratch arrays for `N_LANES` matrices with their right-hand sides."""
    n_diagonals, n, n_rows = diagonals.shape
    n_right = right.shape[2]
    rows, added, factor = elements(given), elements(diagonal), elements(found)
    for first in range(0, n, N_LANES):
        for lane in range(N_LANES):
            number = min(first + lane, n - 1)  # the last matrix fills the lanes that are left
            for i in range(n_rows):
                for j in range(i + 1):
                    given[i, j, lane] = matrices[number, i, j]
                for j in range(n_right):
                    given[n_rows + j, i, lane] = right[number, i, j]
        for each in range(n_diagonals):
            for lane in range(N_LANES):
                number = min(first + lane, n - 1)
                for i in range(n_rows):
                    diagonal[0, i, lane] = diagonals[each, number, i]
            _decompose(rows, added[0], factor, n_right)
            _substitute(factor, n_right)
            for lane in range(min(N_LANES, n - first)):
                for i in range(n_rows):
                    for j in range(n_right):
                        solved[each, first + lane, i, j] = found[n_rows + j, i, lane]


@inlined
def _decompose(rows, added, factor, n_right):
    """Fill `factor` with the rows of the Cholesky factor L, whose diagonal is inverted, and those of right' L'^-1.

    The columns before a block of four rows are computed for the four rows together, because a sum of products in one
    register would wait for the end of each addition; the other columns row by row.
    """
    n_rows = added.size
    i = 0
    while i < n_rows + n_right:
        n_block = 4 if i + 4 <= n_rows or n_rows <= i <= n_rows + n_right - 4 else 1
        n_common = min(i, n_rows) if n_block == 4 else 0
        for j in range(n_common):
            first, second, third, fourth = rows[i, j], rows[i + 1, j], rows[i + 2, j], rows[i + 3, j]
            for t in range(j):
                shared = factor[j, t]
                first -= factor[i, t] * shared
                second -= factor[i + 1, t] * shared
                third -= factor[i + 2, t] * shared
                fourth -= factor[i + 3, t] * shared
            shared = factor[j, j]
            factor[i, j] = first * shared
            factor[i + 1, j] = second * shared
            factor[i + 2, j] = third * shared
            factor[i + 3, j] = fourth * shared
        for row in range(i, i + n_block):
            for j in range(n_common, min(row, n_rows)):
                total = rows[row, j]
                for t in range(j):
                    total -= factor[row, t] * factor[j, t]
                factor[row, j] = total * factor[j, j]
            if row < n_rows:
                total = rows[row, row] + added[row]
                for t in range(row):
                    total -= factor[row, t] * factor[row, t]
                factor[row, row] = 1.0 / math.sqrt(total)
        i += n_block


@inlined
def _substitute(factor, n_right):
    """Solve the second triangular system in place, in the last rows of what `_decompose` has filled."""
    n_rows = factor.shape[1]
    row = n_rows
    while row < n_rows + n_right:
        n_block = 4 if row + 4 <= n_rows + n_right else 1
        for i in range(n_rows - 1, -1, -1):
            if n_block == 4:
                first, second, third, fourth = (
                    factor[row, i],
                    factor[row + 1, i],
                    factor[row + 2, i],
                    factor[row + 3, i],
                )
                for t in range(i + 1, n_rows):
                    shared = factor[t, i]
                    first -= factor[row, t] * shared
                    second -= factor[row + 1, t] * shared
                    third -= factor[row + 2, t] * shared
                    fourth -= factor[row + 3, t] * shared
                shared = factor[i, i]
                factor[row, i] = first * shared
                factor[row + 1, i] = second * shared
                factor[row + 2, i] = third * shared
                factor[row + 3, i] = fourth * shared
            else:
                total = factor[row, i]
                for t in range(i + 1, n_rows):
                    total -= factor[row, t] * factor[t, i]
                factor[row, i] = total * factor[i, i]
        row += n_block


@compiled
def _leading(matrices, values, vectors, given, found):
    """Fill `values` and `vectors`, given scratch arrays for `N_LANES` matrices and their eigenvectors."""
    n, size = matrices.shape[:2]
    matrix, rows = elements(given), elements(found)
    for first in range(0, n, N_LANES):
        for lane in range(N_LANES):
            number = min(first + lane, n - 1)  # the last matrix fills the lanes that are left
            for i in range(size):
                for j in range(size):
                    given[i, j, lane] = matrices[number, i, j]
                    found[i, j, lane] = 1.0 if i == j else 0.0
        _diagonalise(matrix, rows)
        for lane in range(min(N_LANES, n - first)):
            largest = 0
            for i in range(1, size):
                if given[i, i, lane] > given[largest, largest, lane]:
                    largest = i
            values[first + lane] = given[largest, largest, lane]
            for i in range(size):
                vectors[first + lane, i] = found[largest, i, lane]


@inlined
def _diagonalise(matrix, vectors):
    """Make matrices diagonal by rotations, and rotate the rows of `vectors` with them.

    A matrix that is diagonal is not rotated further while others are.
    """
    size = len(matrix)
    zero = 0.0 * matrix[0, 0]
    for _ in range(MOST_SWEEPS):
        rest, diagonal = zero, zero
        for i in range(size):
            diagonal += matrix[i, i] * matrix[i, i]
            for j in range(i):
                rest += matrix[i, j] * matrix[i, j]
        is_unfinished = rest > diagonal * SMALLEST_REST
        if not any_of(is_unfinished):
            break
        for i in range(1, size):
            for j in range(i):
                _rotate(matrix, vectors, j, i, is_unfinished)


@inlined
def _rotate(matrix, vectors, p, r, is_rotated):
    """Make the element in row p and column r of matrices 0, where `is_rotated`."""
    element = matrix[p, r]
    zero = 0.0 * element
    half = (matrix[r, r] - matrix[p, p]) * 0.5
    length = abs(half) + math.sqrt(half * half + element * element)
    is_rotated_now = length > where(is_rotated, zero, length)
    tangent = where(is_rotated_now, element, zero) / where(is_rotated_now, length, zero + 1.0)
    tangent = where(half < zero, zero - tangent, tangent)
    cosine = 1.0 / math.sqrt(tangent * tangent + 1.0)
    sine = tangent * cosine
    matrix[p, p] -= tangent * element
    matrix[r, r] += tangent * element
    matrix[p, r] = matrix[r, p] = where(is_rotated, zero, element)
    for i in range(len(matrix)):
        if i not in (p, r):
            one, other = matrix[p, i], matrix[r, i]
            matrix[p, i] = matrix[i, p] = cosine * one - sine * other
            matrix[r, i] = matrix[i, r] = sine * one + cosine * other
        one, other = vectors[p, i], vectors[r, i]
        vectors[p, i] = cosine * one - sine * other
        vectors[r, i] = sine * one + cosine * other
