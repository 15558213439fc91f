"""The largest eigenvalues of symmetric matrices with their eigenvectors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import linalg

from pipeline.arrays import Float64Array
from pipeline.numerics.eigenpairs import largest_eigenpairs


def covariance(n: int, rank: int) -> Float64Array:
    values = np.random.default_rng(n).standard_normal((n, rank))
    return values @ values.T


@pytest.mark.parametrize(
    ("n", "rank", "n_pairs"), [(1, 1, 1), (2, 1, 2), (101, 300, 10), (300, 40, 50), (300, 900, 300)]
)
def test_they_are_those_of_scipy_to_the_byte(n: int, rank: int, n_pairs: int) -> None:
    matrix = covariance(n, rank)
    before = matrix.copy()
    values, vectors = largest_eigenpairs(matrix, n_pairs)
    expected = linalg.eigh(matrix, subset_by_index=(n - n_pairs, n - 1), driver="evr", check_finite=False)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(vectors, expected[1])
    np.testing.assert_array_equal(matrix, before)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-10 * values[-1])


def test_threads_do_not_disturb_each_other() -> None:
    matrices = [covariance(n, 2 * n) for n in range(110, 150)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda matrix: largest_eigenpairs(matrix, 5)[1], matrices))
    for matrix, vectors in zip(matrices, together, strict=True):
        np.testing.assert_array_equal(vectors, largest_eigenpairs(matrix, 5)[1])


def test_an_error_of_lapack_is_raised() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="for a matrix of 3 rows"):
        largest_eigenpairs(np.eye(3), 4)
