"""Linear systems and leading eigenvectors of many small matrices, against LAPACK."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.arrays import Float64Array
from pipeline.numerics.lanes import N_LANES
from pipeline.numerics.small_systems import leading_eigenpairs, solve


def systems(
    n: int, n_rows: int, n_right: int, n_diagonals: int, seed: int = 0
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return covariances of random functions, diagonals to add, and right-hand sides."""
    draw = np.random.default_rng(seed)
    functions = draw.normal(size=(n, n_rows, 3 * n_rows))
    covariances = functions @ np.swapaxes(functions, 1, 2) / (3 * n_rows)
    return covariances, draw.uniform(0, 3, (n_diagonals, n, n_rows)), draw.normal(size=(n, n_rows, n_right))


@pytest.mark.parametrize("n", [1, N_LANES - 1, N_LANES, 2 * N_LANES + 3])
@pytest.mark.parametrize(("n_rows", "n_right"), [(1, 1), (2, 1), (3, 5), (4, 4), (7, 3), (40, 4), (41, 8), (90, 6)])
def test_solutions_are_those_of_lapack(n: int, n_rows: int, n_right: int) -> None:
    covariances, diagonals, right = systems(n, n_rows, n_right, 3)
    totals = np.broadcast_to(covariances, (3, *covariances.shape)).copy()
    totals[..., np.arange(n_rows), np.arange(n_rows)] += diagonals

    solved = solve(covariances, diagonals, right)

    assert solved.shape == (3, n, n_rows, n_right)
    np.testing.assert_allclose(solved, np.linalg.solve(totals, right[None]), rtol=1e-9, atol=1e-12)


def test_duplicated_functions_are_solved_with_the_smallest_penalty_in_use() -> None:
    covariances, _, right = systems(5, 6, 4, 1)
    twice = np.tile(covariances, (1, 2, 2))
    doubled = np.tile(right, (1, 2, 1))

    (solved,) = solve(twice, np.full((1, 5, 12), 1e-8), doubled)

    (single,) = solve(covariances, np.full((1, 5, 6), 5e-9), right)
    np.testing.assert_allclose(solved[:, :6], single / 2, rtol=1e-5)
    np.testing.assert_allclose(solved[:, 6:], single / 2, rtol=1e-5)


def test_a_solution_has_the_same_bits_alone_and_among_others() -> None:
    covariances, diagonals, right = systems(2 * N_LANES + 3, 12, 4, 2)

    together = solve(covariances, diagonals, right)

    for index in range(len(covariances)):
        one = slice(index, index + 1)
        alone = solve(covariances[one], diagonals[1:, one], right[one])
        np.testing.assert_array_equal(alone[0], together[1, one])


def test_given_arrays_are_not_changed_and_may_be_read_only_views() -> None:
    given = [np.asfortranarray(each) for each in systems(9, 5, 4, 2)]
    copies = [each.copy() for each in given]
    expected = solve(*copies)
    for each in given:
        each.flags.writeable = False

    np.testing.assert_array_equal(solve(*given), expected)
    for each, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(each, copy)


def spectra(size: int) -> list[Float64Array]:
    """Return spectra that are hard for eigenvalue methods: close, multiple, of very different size, and all but 0."""
    draw = np.random.default_rng(size)
    close = 1 + 1e-9 * draw.normal(size=size)
    one = np.eye(size)[0] / 2
    graded = 10.0 ** (-2.0 * np.arange(size))
    tiny = 1e-15 * draw.uniform(size=size)
    double = np.concatenate([[0.7, 0.7], draw.uniform(0, 0.6, size)])[:size]
    return [draw.uniform(size=size), close, np.abs(close - 1), one, graded, tiny, double, np.zeros(size)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 20])
def test_eigenpairs_are_those_of_lapack(size: int) -> None:
    draw = np.random.default_rng(size)
    rotated = []
    for spectrum in [each for _ in range(20) for each in spectra(size)]:
        rotation = np.linalg.qr(draw.normal(size=(size, size)))[0]
        matrix = rotation * spectrum @ rotation.T
        rotated.append((matrix + matrix.T) / 2)
    matrices = np.array(rotated).reshape(20, 8, size, size)

    values, vectors = leading_eigenpairs(matrices)

    assert values.shape == (20, 8)
    assert vectors.shape == (20, 8, size)
    expected = np.linalg.eigvalsh(matrices)[..., -1]
    scale = np.maximum(np.abs(matrices).max(axis=(-1, -2)), np.finfo(float).tiny)
    assert np.abs((values - expected) / scale).max() < 1e-14
    np.testing.assert_allclose((vectors**2).sum(axis=-1), 1, rtol=1e-14)
    residual = (matrices @ vectors[..., None])[..., 0] - values[..., None] * vectors
    assert np.abs(residual / scale[..., None]).max() < 1e-14


def test_an_eigenpair_has_the_same_bits_alone_and_among_others() -> None:
    draw = np.random.default_rng(3)
    factors = draw.normal(size=(2 * N_LANES + 3, 4, 6)) * np.logspace(0, -6, 6)
    matrices = factors @ np.swapaxes(factors, 1, 2)
    matrices[::3] = np.diag([0.1, 0.4, 0.2, 0.3])  # finished before the others
    values, vectors = leading_eigenpairs(matrices)

    for index, matrix in enumerate(matrices):
        value, vector = leading_eigenpairs(matrix)
        assert value == values[index]
        np.testing.assert_array_equal(vector, vectors[index])


def test_elements_whose_squares_underflow_do_not_matter() -> None:
    values, vectors = leading_eigenpairs(np.array([[0.5, 1e-170, 0.0], [1e-170, 0.5, 1e-200], [0.0, 1e-200, 0.5]]))

    assert values == 0.5
    np.testing.assert_allclose((vectors**2).sum(), 1)


@pytest.mark.parametrize("value", [-2.0, np.nan, np.inf])
def test_systems_without_a_solution_are_refused(value: float) -> None:
    covariances, diagonals, right = systems(N_LANES + 1, 4, 4, 1)
    diagonals[0, N_LANES, 2] = value - covariances[N_LANES, 2, 2]
    right[N_LANES, 2] = np.inf if np.isinf(value) else right[N_LANES, 2]
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        solve(covariances, diagonals, right)


def test_eigenpairs_of_matrices_that_are_not_finite_are_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="must be finite"):
        leading_eigenpairs(np.array([[0.5, np.nan], [np.nan, 0.3]]))
