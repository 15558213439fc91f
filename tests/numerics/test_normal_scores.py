"""Variables with heavy tails: what is transformed, and that splines then find what they missed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kurtosis, norm

from pipeline.numerics.ace import maximal_correlation
from pipeline.numerics.normal_scores import without_heavy_tails


def test_variables_without_heavy_tails_are_left_as_they_are() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=300), rng.uniform(size=300), np.abs(rng.normal(size=300)), np.full(300, 7.0)])
    assert kurtosis(x[:3], axis=1, fisher=False).max() < 5
    assert without_heavy_tails(x) is x


def test_the_quantiles_of_heavy_tails_become_those_of_the_normal_distribution() -> None:
    ranks = np.arange(1, 1001) - 0.5
    x = np.exp(2 * norm.ppf(ranks / 1000))
    found = without_heavy_tails(x)
    np.testing.assert_allclose(found / found.std(), norm.ppf(ranks / 1000), atol=0.1)
    assert np.all(np.diff(found) > 0)


def test_the_transformation_sets_in_gradually() -> None:
    z = norm.ppf((np.arange(300) + 0.5) / 300)
    kinds = np.linspace(1, 3, 400)
    x = np.sign(z) * np.abs(z) ** kinds[:, None]
    tails = kurtosis(x, axis=1, fisher=False)
    assert tails.min() < 5
    assert tails.max() > 10
    found = without_heavy_tails(x)
    found = found / found.std(axis=1, keepdims=True)
    steps = np.abs(np.diff(found, axis=0)).max(axis=1)
    unchanged = np.abs(np.diff(x / x.std(axis=1, keepdims=True), axis=0)).max(axis=1)
    assert steps.max() < 3 * unchanged.max()  # the steps between neighbouring variables: no jump


def test_units_do_not_matter_and_equal_values_stay_equal() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_cauchy(size=(4, 300))
    x[1] = np.round(x[1])
    x[2] = np.maximum(x[2], 0)
    x[3, 1:] = 0.0  # one image differs from all others
    found = without_heavy_tails(x)
    for unit in (2.0**-900, 2.0**900, -3.0):
        np.testing.assert_allclose(without_heavy_tails(x * unit), found * np.sign(unit), atol=1e-9)
    for values, transformed in zip(x, found, strict=True):
        order = np.argsort(values)
        same = np.diff(values[order]) == 0
        assert not np.diff(transformed[order])[same].any()
        assert np.all(np.diff(transformed[order])[~same] > 0)


@pytest.mark.parametrize("n_images", [100, 300, 1000])
def test_the_maximal_correlation_does_not_depend_on_the_scale_of_heavy_tails(n_images: int) -> None:
    """With the response exp(y) or the predictors exp(x), the correlation is that of y and x."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(8, n_images, 1))
    y = x[0, :, 0] + rng.normal(size=n_images)
    x[1:] = x[:1] + 0.3 * rng.normal(size=(7, n_images, 1))
    plain = maximal_correlation(x, y)
    for heavy in (maximal_correlation(x, np.exp(y)), maximal_correlation(np.exp(2 * x), y)):
        np.testing.assert_allclose(heavy, plain, atol=0.05)


def test_extreme_units_of_the_response_are_defined() -> None:
    rng = np.random.default_rng(3)
    x, noise = rng.normal(size=(2, 200, 1)), rng.normal(size=200)
    y = np.exp(2 * (x[0, :, 0] + noise))
    found = maximal_correlation(x, y)
    with np.errstate(all="raise", under="ignore"):
        for unit in (1e-300, 1e290):
            np.testing.assert_allclose(maximal_correlation(x, y * unit), found, atol=1e-6)


def test_a_variable_with_many_images_has_the_same_bits_alone_and_among_others() -> None:
    values = np.random.default_rng(0).standard_t(7, (6, 20_001))  # kurtosis 5 to 10, where the weights matter
    together = without_heavy_tails(values)
    for index, value in enumerate(values):
        np.testing.assert_array_equal(without_heavy_tails(value[None])[0], together[index])
