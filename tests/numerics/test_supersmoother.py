from __future__ import annotations

import numpy as np
import pytest
from ace.smoother import BasicFixedSpanSmoother
from ace.supersmoother import SuperSmoother
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.numerics.sorting import stable_order
from pipeline.numerics.supersmoother import supersmooth

RNG = np.random.default_rng(0)


class Watched(BasicFixedSpanSmoother):  # type: ignore[misc]  # the package has no annotations
    """The package's own smoother; notes whether rounding alone decided if a point's leverage is 1."""

    is_defined = True

    def _compute_cross_validated_residual_here(self, xi: float, yi: float, smooth_here: float) -> float:
        leverage = 1 / self.window_size
        if self._variance_in_window > self._variance_threshold:
            leverage += (xi - self._mean_x_in_window) ** 2 / self._variance_in_window
        if 0 < 1 - leverage < 1e-12:
            Watched.is_defined = False
        return super()._compute_cross_validated_residual_here(xi, yi, smooth_here)


def by_the_package(x: np.ndarray, y: np.ndarray, bass: float, monkeypatch: pytest.MonkeyPatch) -> np.ndarray | None:
    """Return the `ace` package's smooth, None where it divides rounding by rounding (0 / 0 in exact numbers)."""
    monkeypatch.setattr("ace.smoother.DEFAULT_BASIC_SMOOTHER", Watched)
    Watched.is_defined = True
    smoother = SuperSmoother()
    smoother.set_bass_enhancement(bass)
    smoother.specify_data_set(list(x), list(y), sort_data=True)
    smoother.compute()
    return np.array(smoother.smooth_result) if Watched.is_defined else None


@pytest.mark.parametrize("bass", [0, 2.5, 5, 10])
@pytest.mark.parametrize("kind", ["continuous", "relu", "integer"])
def test_it_is_the_package_s_smooth(kind: str, bass: float, monkeypatch: pytest.MonkeyPatch) -> None:
    n_compared = 0
    for n in (5, 6, 7, 9, 12, 20, 50, 300):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=n)
            y = np.sin(2 * x) + rng.normal(size=n)
            x = {"continuous": x, "relu": np.maximum(x, 0), "integer": np.round(3 * x)}[kind]
            expected = by_the_package(x, y, bass, monkeypatch) if np.ptp(x) > 0 else None
            if expected is not None:
                np.testing.assert_allclose(supersmooth(x, y, bass=bass), expected, atol=1e-11)
                n_compared += 1
    assert n_compared >= 18


def test_a_point_that_alone_decides_its_fit_takes_the_residual_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In exact numbers 1 - leverage is 0 there. The package's rounding makes it 2e-16 as often as not, and then its
    residual is noise over noise. Ours is the same for all, and what the package's is where it comes out as 0 or less.
    """
    rng = np.random.default_rng(5012)
    x, y = np.round(2 * rng.normal(size=12)), rng.normal(size=12)
    smooth = supersmooth(x, y)
    n_defined = 0
    for shift in np.linspace(0, 1, 30):
        shifted = x * 3 + shift
        np.testing.assert_allclose(supersmooth(shifted, y), smooth, atol=1e-12)
        expected = by_the_package(shifted, y, 0, monkeypatch)
        if expected is not None:
            np.testing.assert_allclose(smooth, expected, atol=1e-12)
            n_defined += 1
    assert 0 < n_defined < 30


def test_straight_lines_stay_and_equal_x_share_a_value() -> None:
    x = RNG.normal(size=100)
    np.testing.assert_allclose(supersmooth(x, 3 * x - 1), 3 * x - 1, atol=1e-12)
    x = np.round(x)
    smooth = supersmooth(x, RNG.normal(size=100))
    assert all(np.ptp(smooth[x == value]) == 0 for value in np.unique(x))
    np.testing.assert_array_equal(supersmooth(np.ones(10), np.arange(10.0)), np.full(10, 4.5))


def test_more_bass_is_smoother() -> None:
    x = np.sort(RNG.uniform(size=200))
    y = np.sin(6 * x) + 0.5 * RNG.normal(size=200)
    roughness = [np.abs(np.diff(supersmooth(x, y, bass=bass), 2)).mean() for bass in (0, 5, 10)]
    assert roughness[0] > roughness[1] > roughness[2]


@pytest.mark.parametrize("scale", [1e-308, 1e-150, 1e150, 1e307])
def test_any_scale_of_x_and_y(scale: float) -> None:
    x, y = RNG.uniform(-1, 1, size=(2, 50))
    np.testing.assert_allclose(supersmooth(x * scale, y * scale) / scale, supersmooth(x, y), rtol=1e-9, atol=1e-12)


def test_bad_input_is_refused() -> None:
    for x, y, parameters, message in (
        (np.ones(4), np.ones(4), {}, "x must have at least 5 points; got 4."),
        (np.ones(6), np.ones(5), {}, "x and y must be two vectors of one length; got shapes (6,) and (5,)."),
        (np.full(6, np.nan), np.ones(6), {}, "x and y must be finite; got NaN or infinity."),
        (np.ones(6), np.ones(6), {"bass": -1}, "bass must be in [0, 10]; got -1."),
        (
            np.ones(6),
            np.ones(6),
            {"spans": (0, 0.2, 1)},
            "spans must be three rising shares in (0, 1]; got (0, 0.2, 1).",
        ),
    ):
        with pytest.raises(InputError) as caught:
            supersmooth(x, y, **parameters)
        assert str(caught.value) == message


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3).map(float), min_size=2, max_size=60)
)
def test_the_order_is_numpy_s_stable_one(values: list[float]) -> None:
    x = np.array(values) + 0.0  # -0 is 0
    n = len(x)
    order, other_order = np.empty((2, n), dtype=np.int64)
    keys, other = np.empty((2, n), dtype=np.uint32)
    stable_order(x, order, keys, other, other_order)
    np.testing.assert_array_equal(order, np.argsort(x, kind="stable"))


def test_the_order_of_very_uneven_values_is_right_too() -> None:
    outlier, cluster = np.append(RNG.normal(size=2000), 1e300), 1e9 + 1e-6 * RNG.normal(size=3000)
    for x in (outlier, cluster, np.ldexp(1.0, RNG.integers(-1000, 1000, 999))):
        n = len(x)
        order, other_order = np.empty((2, n), dtype=np.int64)
        keys, other = np.empty((2, n), dtype=np.uint32)
        stable_order(x, order, keys, other, other_order)
        np.testing.assert_array_equal(order, np.argsort(x, kind="stable"))
