"""The maximal correlation and the methods of the estimators, with either smoother."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.numerics import ACERegressor
from pipeline.numerics.ace import (
    AceEstimator,
    Smoother,
    SplineAce,
    SupersmootherAce,
    ace_estimator,
    maximal_correlation,
    optimal_transforms,
)
from pipeline.numerics.parameters import AceParameters
from pipeline.numerics.spline_ace import spline_transforms
from pipeline.numerics.spline_smoothness import select_smoothness
from pipeline.numerics.spline_solver import Smoothness
from pipeline.numerics.supersmoother_ace import supersmoother_transforms
from tests.helpers.estimators import ESTIMATORS, spline_pair

SEEDS = st.integers(0, 10**6)
SMOOTHERS: tuple[Smoother, ...] = ("spline", "supersmoother")
of_both_smoothers = pytest.mark.parametrize("smoother", SMOOTHERS)
SMOOTHNESS = Smoothness(0.4, 0.3, 0.1)


def layer(n_channels: int = 4, n_images: int = 120, n_components: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return channels whose first component depends on the response, from not at all to closely, and the response."""
    rng = np.random.default_rng(0)
    response = rng.normal(size=n_images)
    values = rng.normal(size=(n_channels, n_images, n_components))
    values[:, :, 0] += np.linspace(0, 3, n_channels)[:, None] * (response + 0.5 * response**2)
    return values, response


# The public functions.


@of_both_smoothers
@settings(max_examples=25)
@given(seed=SEEDS, r=st.floats(-0.95, 0.95))
def test_bivariate_normals_give_their_correlation(smoother: Smoother, seed: int, r: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=2000)
    y = r * x + math.sqrt(1 - r**2) * rng.normal(size=2000)
    parameters = AceParameters(bass=10) if smoother == "supersmoother" else AceParameters()
    found = maximal_correlation(x[None, :, None], y, smoother=smoother, parameters=parameters)[0]
    # The estimate's own deviation is (1 - r^2) / sqrt(n), and it is biased upwards where there is little to find.
    assert abs(r) - 4 * (1 - r**2) / math.sqrt(2000) - 0.01 < found < abs(r) + 4 * (1 - r**2) / math.sqrt(2000) + 0.12


@of_both_smoothers
@settings(max_examples=10)
@given(seed=SEEDS)
def test_an_association_without_linear_correlation_is_found(smoother: Smoother, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 300, 5))
    y = x[0, :, 2] ** 2 + 0.01 * rng.normal(size=300)
    assert maximal_correlation(x, y, smoother=smoother)[0] > 0.97
    assert maximal_correlation(x, y, statistic="first", smoother=smoother)[0] < 0.35


@settings(max_examples=10)
@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5))
def test_with_splines_the_units_change_nothing_but_rounding(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 80, 3)), rng.normal(size=80)
    by_splines = partial(maximal_correlation, smoother="spline")
    expected = by_splines(x, y)
    units = np.array([scale, 1.0, 1 / scale])
    np.testing.assert_allclose(by_splines(x * units + shift * units, y), expected, atol=1e-6)
    np.testing.assert_allclose(by_splines(x, y * scale + shift * scale), expected, atol=1e-6)


@of_both_smoothers
def test_permuting_channels_permutes_the_results(smoother: Smoother) -> None:
    values, response = layer(n_channels=7)
    order = np.random.default_rng(1).permutation(7)
    smoothness = SMOOTHNESS if smoother == "spline" else None
    once = maximal_correlation(values, response, smoother=smoother, smoothness=smoothness)
    again = maximal_correlation(values[order], response, smoother=smoother, smoothness=smoothness)
    np.testing.assert_array_equal(again, once[order])


def test_the_smoother_is_splines_unless_the_supersmoother_is_asked_for() -> None:
    values, response = layer()
    by_splines = spline_transforms(values, response, SMOOTHNESS)
    found = optimal_transforms(values, response, smoothness=SMOOTHNESS)
    np.testing.assert_array_equal(found.maximal, by_splines.maximal)
    np.testing.assert_array_equal(found.first, by_splines.first)
    np.testing.assert_array_equal(found.statistics["penalised"], by_splines.penalised)
    np.testing.assert_array_equal(found.phi, by_splines.phi)
    np.testing.assert_array_equal(found.theta, by_splines.theta)
    assert found.iterations is None
    assert found.degrees_of_freedom is not None
    other = optimal_transforms(values, response, smoother="supersmoother")
    expected = supersmoother_transforms(values, response)
    for name in ("maximal", "first", "r_squared", "iterations", "phi", "theta"):
        np.testing.assert_array_equal(getattr(other, name), getattr(expected, name))
    assert other.degrees_of_freedom is None


def test_parameters_of_the_other_smoother_are_refused() -> None:
    values, response = layer()
    with pytest.raises(InputError) as caught:
        optimal_transforms(values, response, parameters=AceParameters(bass=0, maxit=3))
    assert str(caught.value) == (
        "bass, maxit must be left at the default with smoother='spline', which does not use it; "
        "set smoother='supersmoother'."
    )
    with pytest.raises(InputError) as caught:
        optimal_transforms(values, response, smoother="supersmoother", smoothness=SMOOTHNESS)
    assert str(caught.value) == "smoothness must be None with smoother='supersmoother'; set bass instead."


def test_every_statistic_of_a_smoother_can_be_asked_for_and_no_other() -> None:
    values, response = layer()
    for smoother in SMOOTHERS:
        for name, expected in optimal_transforms(values, response, smoother=smoother).statistics.items():
            found = maximal_correlation(values, response, statistic=name, smoother=smoother)  # type: ignore[arg-type]
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError) as caught:
        maximal_correlation(values, response, statistic="penalised", smoother="supersmoother")
    assert str(caught.value) == (
        "statistic must be 'maximal' or 'first' with smoother='supersmoother'; got 'penalised'."
    )
    with pytest.raises(InputError) as caught:
        maximal_correlation(values, response, smoother="kernel")  # type: ignore[arg-type]
    assert str(caught.value) == "smoother must be 'spline' or 'supersmoother'; got 'kernel'."


@of_both_smoothers
def test_impossible_input_is_refused(smoother: Smoother) -> None:
    values, response = layer()
    for bad, y, message in (
        (values[0], response, r"predictors must have the shape \(n_channels, n_images, n_components\)"),
        (values[:, :4], response[:4], r"n_images must be at least 5; got 4\."),
        (np.full_like(values, np.nan), response, r"predictors must be finite; got NaN or infinity\."),
        (values, response[:9], r"response must hold one value for each of the 120 images"),
        (values, np.full(120, np.inf), r"response must be finite; got NaN or infinity\."),
        (values, np.full(120, 3.0), r"response must differ between images; got 3 for every one\."),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            optimal_transforms(bad, y, smoother=smoother)
    with pytest.raises(InputError, match=r"^n_threads must be at least 1; got 0\.$"):
        optimal_transforms(values, response, smoother=smoother, n_threads=0)


def test_the_estimator_has_the_parameters_that_are_given_or_chosen() -> None:
    values, response = layer()
    chosen = ace_estimator("spline", values, response, seed=3, n_threads=2)
    assert chosen == SplineAce(select_smoothness(values, response, seed=3).smoothness, 2)
    assert ace_estimator("spline", values, response, smoothness=SMOOTHNESS) == SplineAce(SMOOTHNESS)
    assert ace_estimator("spline", values[:, :9], response[:9]) == SplineAce()
    parameters = AceParameters(bass=1)
    other = ace_estimator("supersmoother", values, response, parameters=parameters, n_threads=1)
    assert other == SupersmootherAce(parameters, 1)


# The methods of the estimators.


@of_both_smoothers
def test_r_squared_and_the_statistics_are_those_of_the_transforms(smoother: Smoother) -> None:
    values, response = layer()
    found = ESTIMATORS[smoother].fit(values, response)
    assert tuple(found.statistics) == ESTIMATORS[smoother].statistics
    np.testing.assert_allclose(found.theta.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(found.theta.std(axis=1), 1, atol=1e-12)
    for phi, theta, r_squared, maximal, first in zip(
        found.phi, found.theta, found.r_squared, found.maximal, found.first, strict=True
    ):
        assert r_squared == pytest.approx(1 - np.mean((theta - phi.sum(axis=1)) ** 2), abs=1e-12)
        assert maximal == pytest.approx(np.corrcoef(phi.sum(axis=1), theta)[0, 1], abs=1e-8)
        assert first == pytest.approx(abs(np.corrcoef(phi[:, 0], theta)[0, 1]), abs=1e-8)


@of_both_smoothers
def test_permuted_responses_are_scored_as_if_each_were_the_response(smoother: Smoother) -> None:
    values, response = layer()
    rng = np.random.default_rng(1)
    permutations = np.array([np.arange(120), *(rng.permutation(120) for _ in range(4))])
    found = ESTIMATORS[smoother].permuted(values, response, permutations)
    assert set(found) == set(ESTIMATORS[smoother].statistics)
    for number, order in enumerate(permutations):
        alone = ESTIMATORS[smoother].fit(values, response[order])
        for name, scores in found.items():
            assert scores.shape == (4, 5)
            np.testing.assert_allclose(scores[:, number], alone.statistics[name], atol=1e-9, rtol=0)


def unequal_subsets(n_images: int) -> list[np.ndarray]:
    """Return subsets of several sizes, in no order of their sizes."""
    rng = np.random.default_rng(2)
    return [np.sort(rng.permutation(n_images)[:size]) for size in (60, 41, 60, 80, 41, n_images)]


def test_with_the_supersmoother_a_subset_is_scored_as_its_images_alone() -> None:
    values, response = layer()
    subsets = unequal_subsets(120)
    found = ESTIMATORS["supersmoother"].on_subsets(values, response, subsets)
    for number, chosen in enumerate(subsets):
        alone = ESTIMATORS["supersmoother"].fit(values[:, chosen], response[chosen])
        for name, scores in found.items():
            np.testing.assert_array_equal(scores[:, number], alone.statistics[name])


def test_with_splines_a_subset_is_scored_with_the_functions_of_all_images() -> None:
    values, response = layer()
    subsets = unequal_subsets(120)
    found = SplineAce(SMOOTHNESS).on_subsets(values, response, subsets)
    assert {name: scores.shape for name, scores in found.items()} == dict.fromkeys(found, (4, 6))
    for number, chosen in enumerate(subsets):
        for channel, x in enumerate(values):
            value, phi, theta = spline_pair(x, response, chosen, SMOOTHNESS)
            maximal = np.corrcoef(phi[chosen].sum(axis=1), theta[chosen])[0, 1]
            first = abs(np.corrcoef(phi[chosen, 0], theta[chosen])[0, 1])
            assert found["penalised"][channel, number] == pytest.approx(value, abs=1e-7)
            assert found["maximal"][channel, number] == pytest.approx(maximal, abs=1e-6)
            assert found["first"][channel, number] == pytest.approx(first, abs=1e-6)


def test_with_splines_a_subset_scores_about_the_same_as_its_images_alone() -> None:
    values, response = layer(n_channels=8, n_images=400)
    estimator = SplineAce(SMOOTHNESS)
    rng = np.random.default_rng(2)
    subsets = [np.sort(rng.permutation(400)[:200]) for _ in range(20)]
    found = estimator.on_subsets(values, response, subsets)
    for name, scores in found.items():
        anew = [estimator.fit(values[:, chosen], response[chosen]).statistics[name] for chosen in subsets]
        assert np.abs(scores.T - anew).mean() < 0.01, name


def test_with_the_supersmoother_held_out_images_are_scored_by_interpolated_transforms() -> None:
    values, response = layer()
    held = np.random.default_rng(3).permutation(120)[:30]
    fitted = np.setdiff1d(np.arange(120), held)
    found = ESTIMATORS["supersmoother"].held_out(values, response, [held])
    for channel, x in enumerate(values):
        direct = ACERegressor(smoother="supersmoother").fit(x[fitted], response[fitted])
        phi, theta = direct.transform(x[held]), direct.transform_response(response[held])
        own = np.corrcoef(direct.transform(x[fitted])[:, 0], direct.transform_response(response[fitted]))[0, 1]
        first = np.sign(own) * np.corrcoef(phi[:, 0], theta)[0, 1]
        assert found["maximal"][channel, 0] == pytest.approx(np.corrcoef(phi.sum(axis=1), theta)[0, 1], abs=1e-12)
        assert found["first"][channel, 0] == pytest.approx(first, abs=1e-12)


def test_with_splines_held_out_images_are_scored_by_a_direct_computation() -> None:
    values, response = layer()
    held = np.random.default_rng(3).permutation(120)[:30]
    fitted = np.setdiff1d(np.arange(120), held)
    found = SplineAce(SMOOTHNESS).held_out(values, response, [held])
    for channel, x in enumerate(values):
        _, phi, theta = spline_pair(x, response, fitted, SMOOTHNESS)
        sign = np.sign(np.corrcoef(phi[fitted, 0], theta[fitted])[0, 1])
        maximal = np.corrcoef(phi[held].sum(axis=1), theta[held])[0, 1]
        first = sign * np.corrcoef(phi[held, 0], theta[held])[0, 1]
        assert found["maximal"][channel, 0] == pytest.approx(maximal, abs=1e-6)
        assert found["first"][channel, 0] == pytest.approx(first, abs=1e-6)
        assert found["penalised"][channel, 0] == found["maximal"][channel, 0]


@of_both_smoothers
def test_held_out_images_in_another_order_score_the_same_and_are_not_seen_by_the_fit(smoother: Smoother) -> None:
    values, response = layer()
    held = np.random.default_rng(3).permutation(120)[:30]
    estimator = ESTIMATORS[smoother]
    once = estimator.held_out(values, response, [held])
    for name, scores in estimator.held_out(values, response, [np.sort(held)]).items():
        np.testing.assert_allclose(scores, once[name], atol=1e-9)
    # The class scores of the held-out images are exchanged: the transforms stay, the correlations vanish on average.
    exchanged = response.copy()
    exchanged[held] = response[held[::-1]]
    assert estimator.held_out(values, exchanged, [held])["maximal"][-1, 0] < once["maximal"][-1, 0] - 0.3


@of_both_smoothers
def test_the_number_of_threads_changes_no_bit(smoother: Smoother) -> None:
    values, response = layer(n_channels=9)
    rng = np.random.default_rng(4)
    orders = np.array([rng.permutation(120) for _ in range(5)])
    kinds: dict[Smoother, Callable[[int], AceEstimator]] = {
        "spline": lambda n: SplineAce(SMOOTHNESS, n), "supersmoother": lambda n: SupersmootherAce(n_threads=n),
    }  # fmt: skip
    one, two = (dict(results(kinds[smoother](n), values, response, orders)) for n in (1, 2))
    for method, scores in one.items():
        for name, found in scores.items():
            np.testing.assert_array_equal(found, two[method][name], err_msg=f"{method} {name}")


def results(
    estimator: AceEstimator, values: np.ndarray, response: np.ndarray, orders: np.ndarray
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the name of each method with the statistics that it returns."""
    n_held = max(1, len(response) // 4)
    yield "fit", dict(estimator.fit(values, response).statistics)
    yield "permuted", dict(estimator.permuted(values, response, orders))
    yield "on_subsets", dict(estimator.on_subsets(values, response, [np.sort(each[n_held:]) for each in orders]))
    yield "held_out", dict(estimator.held_out(values, response, [np.sort(orders[0][:n_held])]))


def degenerate(kind: str, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return three channels of three components each, the last without any variation, and the response."""
    rng = np.random.default_rng(5)
    values, response = rng.normal(size=(3, n_images, 3)), rng.normal(size=n_images)
    if kind == "one constant component":
        values[:, :, 0] = 0.1
    elif kind == "duplicated components":
        values[:, :, 1] = values[:, :, 0]
    elif kind == "mirrored components":
        values[:, :, 1] = -values[:, :, 0]
    elif kind == "two values":
        values = (values > 0).astype(float)
    elif kind == "one image differs":
        values[:] = 0.0
        values[:, 0, :] = 1.0
    elif kind == "two class scores":
        response = (np.arange(n_images) % 2).astype(float)
    elif kind == "few class scores":
        response = np.round(response)
    elif kind == "huge and tiny":
        values *= np.array([1e150, 1.0, 1e-150])
    elif kind == "the response itself":
        values[:, :, 0] = response
    values[2] = 7.0
    return values, response


@pytest.mark.parametrize("n_images", [8, 12, 60])
@pytest.mark.parametrize(
    "kind",
    [
        "one constant component", "duplicated components", "mirrored components", "two values", "one image differs",
        "two class scores", "few class scores", "huge and tiny", "the response itself",
    ],
)  # fmt: skip
@of_both_smoothers
def test_every_method_scores_degenerate_input(smoother: Smoother, kind: str, n_images: int) -> None:
    values, response = degenerate(kind, n_images)
    rng = np.random.default_rng(6)
    orders = np.array([rng.permutation(n_images) for _ in range(3)])
    for method, scores in results(ESTIMATORS[smoother], values, response, orders):
        assert set(scores) == set(ESTIMATORS[smoother].statistics)
        for name, found in scores.items():
            what = f"{method} {name}"
            assert np.isfinite(found).all(), what
            assert np.abs(found).max() <= 1 + 1e-9, what
            if method != "held_out":
                assert found.min() >= -1e-9, what
            assert (found[2] == 0).all(), what
    if kind == "the response itself":
        assert ESTIMATORS[smoother].fit(values, response).maximal[0] > 0.9


@pytest.mark.parametrize("smoother", ["spline", "supersmoother"])
@pytest.mark.parametrize("n_values", [2, 3, 60])
def test_a_channel_that_does_not_vary_scores_0_and_leaves_the_response_as_it_is(
    smoother: Smoother, n_values: int
) -> None:
    response = (np.arange(60) * 7 % n_values).astype(float)
    found = ESTIMATORS[smoother].fit(np.full((1, 60, 2), 7.0), response)
    assert all(scores[0] == 0 for scores in found.statistics.values())
    assert found.r_squared[0] == pytest.approx(0, abs=1e-12)
    assert not found.phi.any()
    np.testing.assert_allclose(found.theta[0], (response - response.mean()) / response.std(), atol=1e-12)


@of_both_smoothers
@pytest.mark.parametrize("n_images", [5, 6, 7])
def test_a_handful_of_images_are_fitted_and_permuted(smoother: Smoother, n_images: int) -> None:
    values, response = layer(n_images=n_images)
    permutations = np.array([np.arange(n_images)[::-1]])
    for scores in (
        ESTIMATORS[smoother].fit(values, response).statistics,
        ESTIMATORS[smoother].permuted(values, response, permutations),
        ESTIMATORS[smoother].on_subsets(values, response, [np.arange(n_images)]),
    ):
        for found in scores.values():
            assert ((found >= 0) & (found <= 1 + 1e-9)).all()


@of_both_smoothers
def test_progress_ends_with_all(smoother: Smoother) -> None:
    values, response = layer(n_channels=6)
    estimator, subsets = ESTIMATORS[smoother], [np.arange(0, 120, 2), np.arange(1, 120, 2)]
    for method in (
        lambda progress: estimator.fit(values, response, progress),
        lambda progress: estimator.permuted(values, response, np.arange(120)[None], progress),
        lambda progress: estimator.on_subsets(values, response, subsets, progress),
    ):
        seen: list[tuple[int, int]] = []
        method(lambda done, total: seen.append((done, total)))  # noqa: B023 (called at once)
        assert seen[-1][0] == seen[-1][1]
        assert seen == sorted(seen)
