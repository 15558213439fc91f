"""The measures that PCACE is held against, each against another implementation."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import numba
import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_regression
from sklearn.linear_model import LinearRegression

from pipeline.numerics.association import distance_correlation, multiple_correlation, mutual_information, pearson

RNG = np.random.default_rng(0)
N_CHANNELS, N_IMAGES = 8, 60
SCORE = RNG.normal(size=N_IMAGES)
MEANS = RNG.normal(size=(N_CHANNELS, N_IMAGES)) + np.linspace(-2, 2, N_CHANNELS)[:, None] * SCORE
PROJECTIONS = RNG.normal(size=(N_CHANNELS, N_IMAGES, 3)) + 50
PROJECTIONS[:, :, 1] += np.linspace(0, 3, N_CHANNELS)[:, None] * SCORE


def test_pearson_is_numpys_without_its_sign() -> None:
    by_numpy = [abs(np.corrcoef(values, SCORE)[0, 1]) for values in MEANS]
    np.testing.assert_allclose(pearson(MEANS, SCORE), by_numpy, rtol=1e-12)


def test_multiple_correlation_is_that_of_scikit_learns_fit() -> None:
    by_fit = [np.sqrt(LinearRegression().fit(values, SCORE).score(values, SCORE)) for values in PROJECTIONS]
    np.testing.assert_allclose(multiple_correlation(PROJECTIONS, SCORE), by_fit, rtol=1e-10)


def test_a_component_that_repeats_another_explains_nothing_more() -> None:
    twice = np.concatenate([PROJECTIONS, PROJECTIONS[:, :, :1] * 2 + 1], axis=2)
    np.testing.assert_allclose(multiple_correlation(twice, SCORE), multiple_correlation(PROJECTIONS, SCORE), rtol=1e-9)


@pytest.fixture
def dcor(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package dcor, imported without compilation.

    It compiles when it is imported, and caches two functions under one name, so that processes that import it at the
    same time can replace each other's machine code; a worker of pytest-xdist was once aborted. The test needs only its
    plain NumPy functions.
    """
    monkeypatch.setattr(numba.core.config, "DISABLE_JIT", 1)
    monkeypatch.setattr(numba, "guvectorize", lambda *_, **__: lambda function: function)
    return importlib.import_module("dcor")


def test_distance_correlation_is_dcors(dcor: ModuleType) -> None:
    by_dcor = [float(dcor.distance_correlation(values, SCORE)) for values in PROJECTIONS]
    np.testing.assert_allclose(distance_correlation(PROJECTIONS, SCORE), by_dcor, rtol=1e-10)


def test_mutual_information_is_scikit_learns_channel_by_channel() -> None:
    found = mutual_information(MEANS, SCORE, seed=3)
    assert found.shape == (N_CHANNELS,)
    assert found[[0, -1]].min() > found[3:5].max()  # the strongest and the weakest
    alone = mutual_info_regression(MEANS[:1].T, SCORE, random_state=3)
    assert found[0] == pytest.approx(alone[0], abs=0.02)  # it breaks ties with noise


@pytest.mark.parametrize("measure", [multiple_correlation, distance_correlation])
def test_what_does_not_vary_goes_with_nothing(measure: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    still = np.full((2, N_IMAGES, 3), 0.1)
    assert measure(still, SCORE).tolist() == [0, 0]
    assert measure(PROJECTIONS, np.full(N_IMAGES, 0.1)).max() == 0


@pytest.mark.parametrize("measure", [multiple_correlation, distance_correlation])
def test_units_and_places_do_not_matter(measure: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    np.testing.assert_allclose(measure(PROJECTIONS * 1e-6, 1e5 * SCORE + 7), measure(PROJECTIONS, SCORE), rtol=1e-7)
