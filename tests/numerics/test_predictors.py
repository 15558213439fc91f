"""Predictors that are read a few channels at a time give the results of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.numerics import ace, association, spline_layer, spline_subsets, supersmoother_ace
from pipeline.numerics.ace import AceEstimator
from pipeline.numerics.predictors import Predictors, Transforms
from tests.helpers.estimators import ESTIMATORS

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(9, 60, 4))
RESPONSE = VALUES[2, :, 0] ** 2 + RNG.normal(size=60)
CHANNELS = np.array([1, 2, 4, 5, 8])
IMAGES = np.arange(0, 60, 2)


@pytest.fixture
def mapped(tmp_path: Path) -> Predictors:
    """Some channels and components of an array in a file."""
    np.save(tmp_path / "values.npy", VALUES)
    return Predictors(np.load(tmp_path / "values.npy", mmap_mode="r"), CHANNELS).leading(3)


def test_channels_images_and_components_are_selected_one_after_the_other(mapped: Predictors) -> None:
    found = mapped.of_images(IMAGES).of_channels(np.array([0, 3])).of_images(np.array([5, 1]))
    assert found.shape == (2, 2, 3)
    np.testing.assert_array_equal(found, VALUES[[1, 5]][:, [10, 2], :3])
    np.testing.assert_array_equal(mapped.read(1, 3), VALUES[[2, 4], :, :3])


def test_values_that_are_not_finite_are_refused_when_they_are_read() -> None:
    values = VALUES.copy()
    values[4, 3, 1] = np.inf
    predictors = Predictors(values)
    predictors.read(0, 4)
    with pytest.raises(InputError) as caught:
        predictors.read(4, 5)
    assert str(caught.value) == "predictors must be finite; got NaN or infinity. Check the activations."


@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
@pytest.mark.parametrize("is_small", [False, True], ids=["default", "one channel at a time"])
def test_estimators_give_the_same_for_arrays_and_for_predictors_in_a_file(
    estimator: AceEstimator, mapped: Predictors, monkeypatch: pytest.MonkeyPatch, is_small: bool
) -> None:
    whole = np.ascontiguousarray(VALUES[CHANNELS][:, :, :3])
    permutations = np.array([RNG.permutation(60) for _ in range(7)])
    drawn = [RNG.permutation(60) for _ in range(3)]
    subsets = [np.sort(half) for each in drawn for half in (each[:30], each[30:])]
    folds = [np.arange(0, 60, 3), np.arange(1, 60, 3)]

    def results(predictors: np.ndarray | Predictors, transforms: Transforms | None) -> list[np.ndarray]:
        fitted = estimator.fit(predictors, RESPONSE, transforms=transforms)
        found = [fitted.statistics, estimator.permuted(predictors, RESPONSE, permutations)]
        found += [estimator.on_subsets(predictors, RESPONSE, subsets), estimator.held_out(predictors, RESPONSE, folds)]
        return [*(each[name] for each in found for name in estimator.statistics), fitted.r_squared]

    expected = results(whole, None)
    in_memory = estimator.fit(whole, RESPONSE)
    if is_small:
        monkeypatch.setattr(spline_layer, "VALUES", 1)
        monkeypatch.setattr(spline_layer, "WORKING_BYTES", 1)
        monkeypatch.setattr(spline_subsets, "VALUES_AT_ONCE", 1)
        monkeypatch.setattr(supersmoother_ace, "CHUNK_VALUES", 1)
    transforms = Transforms(np.full((9, 60, 3), np.nan), np.full((9, 60), np.nan), CHANNELS)
    rtol = 1e-12 if is_small else 0  # a product of one matrix may be rounded otherwise than that of a stack
    for one, other in zip(results(mapped, transforms), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol)
    np.testing.assert_allclose(transforms.phi[CHANNELS], in_memory.phi, rtol, rtol)
    np.testing.assert_allclose(transforms.theta[CHANNELS], in_memory.theta, rtol, rtol)
    assert np.isnan(np.delete(transforms.phi, CHANNELS, axis=0)).all()


def test_permutations_and_halves_in_blocks_differ_by_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = ESTIMATORS["spline"]
    permutations = np.array([RNG.permutation(60) for _ in range(7)])
    subsets = [np.sort(half) for each in permutations for half in (each[:30], each[30:])]
    seen: list[tuple[int, int]] = []

    def results() -> list[np.ndarray]:
        found = [estimator.permuted(VALUES, RESPONSE, permutations, lambda done, total: seen.append((done, total)))]
        found.append(estimator.on_subsets(VALUES, RESPONSE, subsets, lambda done, total: seen.append((done, total))))
        return [each[name] for each in found for name in estimator.statistics]

    expected = results()
    seen.clear()
    monkeypatch.setattr(ace, "MOST_VALUES", 4 * 60 * 4)  # four permutations, two subsets
    for one, other in zip(results(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    shares = [done / total for done, total in seen]
    halfway = shares.index(1.0) + 1
    for part in (shares[:halfway], shares[halfway:]):
        assert part == sorted(part)
        assert part[-1] == 1


def test_multiple_correlation_is_computed_a_few_channels_at_a_time(
    mapped: Predictors, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = association.multiple_correlation(VALUES[CHANNELS][:, IMAGES, :3], RESPONSE[IMAGES])
    monkeypatch.setattr(association, "VALUES_AT_ONCE", 2 * 30 * 3)
    np.testing.assert_array_equal(
        association.multiple_correlation(mapped.of_images(IMAGES), RESPONSE[IMAGES]), expected
    )
