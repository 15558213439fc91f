from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import make_smoothing_spline

from pipeline.numerics.spline_basis import spline_basis

N_KNOTS, N_FUNCTIONS = 9, 8


def samples(n_images: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=n_images)
    return np.stack(
        [normal, np.maximum(normal, 0), np.round(normal), rng.standard_cauchy(n_images), np.exp(3 * normal)]
    )


def test_the_functions_are_orthonormal_and_the_straight_line_is_the_first() -> None:
    x = samples()
    basis = spline_basis(x, N_FUNCTIONS, N_KNOTS)
    gram = basis.values @ np.swapaxes(basis.values, 1, 2) / x.shape[1]
    determined = (np.abs(basis.values).max(axis=2) > 0).astype(float)
    np.testing.assert_allclose(gram, np.eye(N_FUNCTIONS) * determined[:, None], atol=1e-8)
    np.testing.assert_allclose(basis.values.mean(axis=2), 0, atol=1e-12)
    for values, line in zip(x, basis.values[:, 0], strict=True):
        assert np.corrcoef(values, line)[0, 1] == pytest.approx(1)
    for roughness, count in zip(basis.roughness, determined.sum(axis=1).astype(int), strict=True):
        assert (np.diff(roughness[:count]) > 0).all()
        assert (roughness[count:] == 0).all()


def test_roughness_is_the_integral_of_the_squared_second_derivative() -> None:
    x = samples()[:2]
    basis = spline_basis(x, N_FUNCTIONS, N_KNOTS)
    step = 1 / 20_000
    grid = x.min(axis=1, keepdims=True) + np.linspace(0, 1, 20_001) * np.ptp(x, axis=1, keepdims=True)
    second = np.diff(basis.at(grid), 2, axis=2) / step**2
    np.testing.assert_allclose((second**2).sum(axis=2) * step, basis.roughness, rtol=1e-4, atol=1e-6)
    # And so for any combination: the mixed integrals are 0.
    mixed = second @ np.swapaxes(second, 1, 2) * step
    scale = np.sqrt(basis.roughness[:, :, None] * basis.roughness[:, None] + 1e-6)
    np.testing.assert_allclose(mixed / scale, np.eye(N_FUNCTIONS) * (basis.roughness > 0)[:, None], atol=2e-3)


def test_elsewhere_the_functions_are_the_same_splines_and_beyond_the_ends_straight_lines() -> None:
    x = samples()
    basis = spline_basis(x, N_FUNCTIONS, N_KNOTS)
    np.testing.assert_allclose(basis.at(x), basis.values, atol=1e-8)
    length = np.ptp(x[0])
    one = spline_basis(x[0], N_FUNCTIONS, N_KNOTS)
    for end, sign in ((x[0].max(), 1), (x[0].min(), -1)):
        at = one.at(end + sign * length * np.array([0.0, 1.0, 2.0, 1e9]))
        slope = at[:, 1] - at[:, 0]
        np.testing.assert_allclose(at[:, 2] - at[:, 1], slope, rtol=1e-9)
        np.testing.assert_allclose((at[:, 3] - at[:, 0]) / 1e9, slope, rtol=1e-6)
        near = one.at(end + sign * length * np.array([-1e-6, 0.0, 1e-6]))
        np.testing.assert_allclose(near[:, 2] - near[:, 1], near[:, 1] - near[:, 0], rtol=1e-3, atol=1e-9)


def test_a_penalised_regression_is_scipy_s_smoothing_spline() -> None:
    """With equally spaced values and as many knots, the knots are the values, and the spaces of functions agree."""
    n = 40
    x = np.linspace(3.0, 7.0, n)
    y = np.sin(2 * x) + 0.3 * np.random.default_rng(0).normal(size=n)
    basis = spline_basis(x, n - 1, n)
    for strength in (1e-4, 1e-2, 1.0, 100.0):
        # Our unit of length is the range of x, 4, so that an integral of squared second derivatives shrinks by 4 ** 3.
        penalty = strength / 4**3 * basis.roughness / n
        fit = y.mean() + basis.values.T @ (basis.values @ y / n / (1 + penalty))
        np.testing.assert_allclose(fit, make_smoothing_spline(x, y, lam=strength)(x), atol=1e-8)


@pytest.mark.parametrize(
    ("x", "n_determined"),
    [
        ([1.0, 1, 1, 1, 1], 0),
        ([1.0, 2, 1, 2, 1], 1),
        ([1.0, 2, 3, 1, 1], 2),
        ([1.0, 2, 3, 4, 1, 1], 3),
        ([1.0, 2, 3, 4, 5], 4),
        ([1e300, -1e300, 0, 1, 2], 2),
        ([1e-300, 2e-300, 0, 3e-300, -1e-300], 4),
        ([1e308, -1e308, 5e307, 1e307, 2e307], 4),
        ([5e-324, 0, 0, 5e-324, 0], 1),
        ([1e9 + 1, 1e9, 1e9 + 2, 1e9, 1e9], 2),
    ],
)
def test_few_distinct_values_determine_few_functions(x: list[float], n_determined: int) -> None:
    basis = spline_basis(np.array(x), N_FUNCTIONS, N_KNOTS)
    np.testing.assert_allclose(np.mean(basis.values**2, axis=1), [1.0] * n_determined + [0.0] * (8 - n_determined))
    assert np.isfinite(basis.at(np.array([*x, 0.0]))).all()


@given(arrays(float, 12, elements=st.integers(-20, 20).map(float)), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_shift_and_scale_do_not_matter(x: np.ndarray, shift: float, scale: float) -> None:
    one, other = spline_basis(x, N_FUNCTIONS, N_KNOTS), spline_basis(x * scale + shift, N_FUNCTIONS, N_KNOTS)
    curvature = 1 / (1 + one.roughness / max(one.roughness[1], 1e-300))
    projector = (one.values.T * curvature) @ one.values
    np.testing.assert_allclose((other.values.T * curvature) @ other.values, projector, atol=1e-5)
