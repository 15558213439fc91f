"""The largest eigenvalues of a symmetric matrix with their eigenvectors, computed by LAPACK in parallel threads.

``scipy.linalg.eigh`` calls the same routine, but holds Python's global lock meanwhile, so that threads wait for each
other. ctypes releases it.
"""

from __future__ import annotations

from ctypes import CFUNCTYPE, POINTER, byref, c_char, c_double, c_int
from functools import cache
from typing import Any

import numpy as np

from pipeline.arrays import Float64Array


def largest_eigenpairs(matrix: Float64Array, n_pairs: int) -> tuple[Float64Array, Float64Array]:
    """Return the largest eigenvalues, ascending, (n_pairs,), and their eigenvectors as columns, (n, n_pairs).

    They are those of ``scipy.linalg.eigh(matrix, subset_by_index=(n - n_pairs, n - 1), driver="evr")``, to the byte.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
        A symmetric matrix of finite values; its lower triangle is read.
    n_pairs : int
        In [1, n].

    Raises
    ------
    numpy.linalg.LinAlgError
        If LAPACK does not find them.
    """
    n = len(matrix)
    n_work, n_integers = _sizes_of_work(n)
    values, vectors, support = np.empty(n), np.empty((n, n_pairs), order="F"), np.empty(2 * n, dtype=np.intc)
    work, integers = np.empty(n_work), np.empty(n_integers, dtype=np.intc)
    _syevr(np.array(matrix, dtype=np.float64, order="F"), n_pairs, values, vectors, support, work, integers)
    return values[:n_pairs], vectors


@cache
def _sizes_of_work(n: int) -> tuple[int, int]:
    """Return the sizes of the two arrays that LAPACK asks for; they decide how it divides the matrix into blocks."""
    work, integers = np.empty(1), np.empty(1, dtype=np.intc)
    matrix, vectors = np.empty((n, n), order="F"), np.empty((n, 1), order="F")
    _syevr(matrix, 1, np.empty(n), vectors, np.empty(2 * n, dtype=np.intc), work, integers, is_query=True)
    return int(work[0]), int(integers[0])


def _syevr(
    matrix: Float64Array,
    n_pairs: int,
    values: Float64Array,
    vectors: Float64Array,
    support: Any,
    work: Float64Array,
    integers: Any,
    *,
    is_query: bool = False,
) -> None:
    """Call LAPACK's ``dsyevr``, which overwrites the matrix; a query fills the first values of the work arrays."""
    n, found, failure = c_int(len(matrix)), c_int(), c_int()
    n_work, n_integers = (c_int(-1 if is_query else len(each)) for each in (work, integers))
    tolerance = c_double(0.0)
    _function()(
        byref(c_char(b"V")), byref(c_char(b"I")), byref(c_char(b"L")), byref(n), _doubles(matrix), byref(n),
        byref(c_double(0.0)), byref(c_double(1.0)), byref(c_int(len(matrix) - n_pairs + 1)), byref(n),
        byref(tolerance), byref(found), _doubles(values), _doubles(vectors), byref(n), _integers(support),
        _doubles(work), byref(n_work), _integers(integers), byref(n_integers), byref(failure),
    )  # fmt: skip
    if failure.value:
        raise np.linalg.LinAlgError(f"dsyevr returned the error {failure.value} for a matrix of {len(matrix)} rows.")


def _doubles(array: Float64Array) -> Any:
    return array.ctypes.data_as(POINTER(c_double))


def _integers(array: Any) -> Any:
    return array.ctypes.data_as(POINTER(c_int))


@cache
def _function() -> Any:
    """Return ``dsyevr`` of the LAPACK that SciPy is built with, from SciPy's interface for Cython."""
    from numba.extending import get_cython_function_address

    text, integer, double = POINTER(c_char), POINTER(c_int), POINTER(c_double)
    arguments = (
        text, text, text, integer, double, integer, double, double, integer, integer, double, integer, double, double,
        integer, integer, double, integer, integer, integer, integer,
    )  # fmt: skip
    return CFUNCTYPE(None, *arguments)(get_cython_function_address("scipy.linalg.cython_lapack", "dsyevr"))
