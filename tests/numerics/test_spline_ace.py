from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import InputError
from pipeline.numerics.spline_ace import (
    SplineAceResult,
    permuted_spline_correlations,
    spline_correlations,
    spline_transforms,
)
from pipeline.numerics.spline_solver import Smoothness
from pipeline.numerics.spline_subsets import subset_spline_correlations
from tests.oracles.iterated_splines import iterated
from tests.oracles.samples import breiman_sine, wang_murphy

STATISTICS = ("penalised", "maximal", "first")


def layer(n_channels: int = 6, n_images: int = 120, n_components: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return channels whose first component follows the response, curved, from not at all to closely."""
    rng = np.random.default_rng(0)
    response = rng.normal(size=n_images)
    values = rng.normal(size=(n_channels, n_images, n_components))
    values[:, :, 0] += np.linspace(0, 3, n_channels)[:, None] * (response + 0.5 * response**2)
    return values, response


@pytest.mark.parametrize("shrinkage", [0.0, 0.2])
@pytest.mark.parametrize("curvatures", [(0.3, 0.2), (0.9, 0.6)])
def test_the_closed_form_is_what_the_iterations_converge_to(curvatures: tuple[float, float], shrinkage: float) -> None:
    values, response = layer(n_channels=4)
    found = spline_transforms(values, response, Smoothness(*curvatures, shrinkage), n_functions=8)
    for channel in range(1, 4):
        value, maximal, phi, theta = iterated(values[channel], response, 9, curvatures, shrinkage, tolerance=1e-10)
        assert found.penalised[channel] == pytest.approx(value, abs=1e-6)
        assert found.maximal[channel] == pytest.approx(maximal, abs=1e-6)
        assert found.first[channel] == pytest.approx(abs(np.corrcoef(phi[:, 0], theta)[0, 1]), abs=1e-6)
        np.testing.assert_allclose(found.theta[channel], theta, atol=1e-5)
        np.testing.assert_allclose(found.phi[channel], phi, atol=1e-5)


def test_the_statistics_are_those_of_the_transforms() -> None:
    values, response = layer()
    found = spline_transforms(values, response, Smoothness(0.5, 0.5, 0.1))
    np.testing.assert_allclose(found.theta.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(found.theta.std(axis=1), 1)
    np.testing.assert_allclose(found.phi.mean(axis=1), 0, atol=1e-12)
    for channel in range(len(values)):
        phi, theta = found.phi[channel], found.theta[channel]
        assert found.maximal[channel] == pytest.approx(np.corrcoef(phi.sum(axis=1), theta)[0, 1])
        assert found.first[channel] == pytest.approx(abs(np.corrcoef(phi[:, 0], theta)[0, 1]))
        assert np.corrcoef(theta, response)[0, 1] > 0
    assert (found.penalised < found.maximal).all()


def test_without_curvature_it_is_the_multiple_correlation() -> None:
    values, response = layer()
    found = spline_transforms(values, response, Smoothness(0, 0))
    for channel, x in enumerate(values):
        fit = x @ np.linalg.lstsq(x - x.mean(axis=0), response - response.mean(), rcond=None)[0]
        assert found.maximal[channel] == pytest.approx(np.corrcoef(fit, response)[0, 1], abs=1e-6)
    np.testing.assert_allclose(found.penalised, found.maximal, atol=1e-6)
    np.testing.assert_allclose(found.degrees_of_freedom, 3, atol=1e-6)
    assert found.response_degrees_of_freedom == pytest.approx(1, abs=1e-6)


def test_known_transforms_are_found() -> None:
    x, y = breiman_sine(n=1000)
    found = spline_transforms(x[None], y, Smoothness(0.99, 0.99), n_functions=8)
    assert abs(np.corrcoef(found.phi[0, :, 0], np.sin(2 * np.pi * x[:, 0]))[0, 1]) > 0.95
    assert abs(np.corrcoef(found.theta[0], np.log(y))[0, 1]) > 0.95
    x, y = wang_murphy(n=800)
    found = spline_transforms(x[None], y, Smoothness(0.95, 0.9), n_functions=8)
    shapes = np.column_stack([np.sin(4 * x[:, 0]), np.abs(x[:, 1]), x[:, 2] ** 2, x[:, 3] ** 3, x[:, 4]])
    for component in range(5):
        assert abs(np.corrcoef(found.phi[0, :, component], shapes[:, component])[0, 1]) > 0.97, component


def test_permutations_are_scored_as_the_data_are() -> None:
    values, response = layer()
    rng = np.random.default_rng(1)
    permutations = np.array([np.arange(120), *(rng.permutation(120) for _ in range(3))])
    smoothness = Smoothness(0.4, 0.3, 0.1)
    found = permuted_spline_correlations(values, response, permutations, smoothness)
    for number, order in enumerate(permutations):
        alone = spline_correlations(values, response[order], smoothness)
        for name in STATISTICS:
            np.testing.assert_allclose(getattr(found, name)[:, number], getattr(alone, name), atol=1e-9)
    all_at_once = spline_transforms(values, response, smoothness)
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(found, name)[:, 0], getattr(all_at_once, name), atol=1e-9)


def test_subsets_are_scored_as_the_data_are_but_with_the_functions_of_all_images() -> None:
    values, response = layer(n_images=400)
    values[:, :, 0] = np.tanh(
        values[:, :, 0]
    )  # how heavy tails are transformed depends on the images, as the functions do
    smoothness = Smoothness(0.4, 0.3, 0.1)
    everything = subset_spline_correlations(values, response, np.arange(400)[None], smoothness)
    whole = spline_correlations(values, response, smoothness)
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(everything, name)[:, 0], getattr(whole, name), atol=1e-9)
    rng = np.random.default_rng(1)
    halves = np.array([np.sort(rng.permutation(400)[:200]) for _ in range(20)])
    found = subset_spline_correlations(values, response, halves, smoothness)
    anew = [spline_correlations(values[:, half], response[half], smoothness) for half in halves]
    for name in STATISTICS:
        difference = getattr(found, name) - np.array([getattr(each, name) for each in anew]).T
        assert np.abs(difference).mean() < 0.01, name


def test_pairs_of_halves_are_scored_as_any_subsets_are() -> None:
    values, response = layer()
    orders = np.array([np.random.default_rng(seed).permutation(120) for seed in range(3)])
    pairs = orders.reshape(6, 60)
    found = subset_spline_correlations(values, response, pairs)
    apart = subset_spline_correlations(values, response, pairs[[1, 3, 5, 0, 2]])
    for name in STATISTICS:
        np.testing.assert_allclose(getattr(found, name)[:, [1, 3, 5, 0, 2]], getattr(apart, name), atol=1e-9)


def test_a_channel_scores_the_same_alone_and_on_any_number_of_threads() -> None:
    values, response = layer(n_channels=11)
    orders = np.array([np.random.default_rng(2).permutation(120) for _ in range(3)])
    halves = orders[:, :60]
    for score, indices in ((permuted_spline_correlations, orders), (subset_spline_correlations, halves)):
        together = score(values, response, indices, n_threads=2)
        for name in STATISTICS:
            np.testing.assert_array_equal(
                getattr(score(values, response, indices, n_threads=1), name), getattr(together, name)
            )
            np.testing.assert_array_equal(
                getattr(score(values[7:8], response, indices), name), getattr(together, name)[7:8]
            )


def test_activations_that_differ_by_3e_6_move_no_score_by_more_than_1e_4() -> None:
    rng = np.random.default_rng(3)
    response = rng.normal(size=300)
    values = rng.normal(size=(100, 300, 10)) * np.geomspace(5, 0.5, 10)
    values[:, :, 0] += rng.normal(size=(100, 1)) * response
    values[:40] = np.maximum(values[:40], 0)  # many ties
    values[40:50] = np.round(values[40:50])
    moved = values + 3e-6 * rng.uniform(-1, 1, values.shape)
    moved[:40] = np.where(values[:40] > 0, moved[:40], 0)
    for smoothness in (Smoothness(), Smoothness(0.9, 0.9), Smoothness(0.3, 0.2, 0.2)):
        one, other = spline_correlations(values, response, smoothness), spline_correlations(moved, response, smoothness)
        for name in STATISTICS:
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    arrays(float, (1, 12, 3), elements=st.integers(-9, 9).map(float)),
    arrays(float, 12, elements=st.integers(-9, 9).map(float)).filter(lambda y: (y != y[0]).any()),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    st.floats(-100, 100),
    st.floats(0.01, 100),
    st.permutations(range(12)),
)
def test_any_data_scores_in_the_unit_interval_whatever_their_unit_and_order(
    values: np.ndarray,
    response: np.ndarray,
    smoothness: tuple[float, float, float],
    shift: float,
    scale: float,
    order: list[int],
) -> None:
    chosen = Smoothness(*smoothness)
    found = spline_transforms(values, response, chosen)
    for name in STATISTICS:
        assert 0 <= getattr(found, name)[0] <= 1
    assert np.isfinite(found.phi).all()
    assert np.isfinite(found.theta).all()
    assert found.penalised[0] <= found.maximal[0] + 1e-6
    again = spline_transforms(values[:, order] * scale + shift, response[order] * scale - shift, chosen)
    np.testing.assert_allclose(again.penalised, found.penalised, atol=1e-4)


def degenerate(n_images: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    some = rng.normal(size=(1, n_images, 3))
    two = (some > 0).astype(float)
    return {
        "constant": np.ones_like(some),
        "one constant": np.concatenate([some[..., :2], np.ones((1, n_images, 1))], axis=2),
        "duplicated": some[..., [0, 0, 1]],
        "mirrored": np.concatenate([some[..., :1], -some[..., :1], some[..., 1:2]], axis=2),
        "two values": two,
        "three values": two + two[..., ::-1],
        "huge": some * 1e300,
        "tiny": some * 1e-300,
        "mixed": some * np.array([1e300, 1.0, 1e-300]),
    }


@pytest.mark.parametrize("n_images", [5, 6, 50])
@pytest.mark.parametrize("kind", degenerate(5))
@pytest.mark.parametrize("smoothness", [Smoothness(), Smoothness(0, 0), Smoothness(1, 1), Smoothness(0.5, 0.5, 1.0)])
def test_every_input_has_a_defined_score(kind: str, n_images: int, smoothness: Smoothness) -> None:
    values, response = degenerate(n_images)[kind], np.random.default_rng(5).normal(size=n_images)
    found = spline_transforms(values, response, smoothness)
    for name in STATISTICS:
        assert 0 <= getattr(found, name)[0] <= 1
    assert np.isfinite(found.phi).all()
    if kind == "constant":
        assert found.penalised[0] == found.maximal[0] == found.first[0] == 0
        assert not found.phi.any()
    if kind in ("huge", "tiny", "mixed"):
        ordinary = spline_transforms(degenerate(n_images)["duplicated"][..., [0, 2]], response, smoothness)
        assert ordinary.penalised[0] <= found.penalised[0] + 1e-6


def test_duplicated_components_share_their_transform_and_add_nothing() -> None:
    values, response = layer(n_channels=2)
    once = spline_transforms(values[..., :1], response, Smoothness(0, 0.3))
    twice = spline_transforms(values[..., [0, 0]], response, Smoothness(0, 0.3))
    np.testing.assert_allclose(twice.penalised, once.penalised, atol=1e-6)
    np.testing.assert_allclose(twice.phi[..., 0], once.phi[..., 0] / 2, atol=1e-6)
    np.testing.assert_allclose(twice.phi[..., 1], once.phi[..., 0] / 2, atol=1e-6)


def test_an_equal_response_for_a_subset_scores_0() -> None:
    values = layer()[0]
    response = np.repeat([0.0, 1.0], 60)
    found = subset_spline_correlations(values, response, np.array([np.arange(60), np.arange(30, 90)]))
    assert (found.penalised[:, 0] == 0).all()
    assert (found.penalised[:, 1] > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v, y: (v[0], y),
            r"predictors must have the shape \(n_channels, n_images, n_components\); got \(120, 3\).",
        ),
        (lambda v, y: (v[:, :4], y[:4]), "n_images must be at least 5; got 4."),
        (lambda v, y: (v * np.inf, y), "predictors must be finite; got NaN or infinity. Check the activations."),
        (lambda v, y: (v, y[:9]), r"response must hold one value for each of the 120 images; got shape \(9,\)."),
        (lambda v, y: (v, y * np.nan), "response must be finite; got NaN or infinity. Check the class scores."),
        (lambda v, y: (v, 0 * y + 2), "response must differ between images; got 2 for every one."),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_input_is_refused(change: Callable[..., tuple[np.ndarray, np.ndarray]], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        spline_transforms(*change(*layer()))


def test_bad_settings_are_refused() -> None:
    values, response = layer()
    with pytest.raises(InputError, match=r"^smoothness.predictors must be in \[0, 1\]; got 1.5.$"):
        Smoothness(1.5)
    with pytest.raises(InputError, match=r"^smoothness.shrinkage must be finite and not negative; got -1.0.$"):
        Smoothness(shrinkage=-1.0)
    with pytest.raises(InputError, match=r"^n_functions must be at least 1; got 0.$"):
        spline_correlations(values, response, n_functions=0)
    with pytest.raises(InputError, match=r"^permutations must be rows of the indices 0 to 119, each once a row.$"):
        permuted_spline_correlations(values, response, [[0, 1]])
    with pytest.raises(InputError, match=r"^subsets must be rows of at least 5 indices from 0 to 119"):
        subset_spline_correlations(values, response, [[0, 1, 2, 3, 120]])


def test_progress_reaches_the_number_of_channels() -> None:
    values, response = layer(n_channels=9)
    seen: list[tuple[int, int]] = []
    result = spline_transforms(values, response, progress=lambda done, total: seen.append((done, total)))
    assert isinstance(result, SplineAceResult)
    assert seen[-1] == (9, 9)
