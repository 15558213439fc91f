from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kstest

from pipeline.errors import InputError
from pipeline.numerics.spline_ace import permuted_spline_correlations, spline_correlations, spline_transforms
from pipeline.numerics.spline_smoothness import TYPICAL, held_out_correlations, held_out_statistics, select_smoothness
from pipeline.numerics.spline_solver import Smoothness


def layer(
    effect: Callable[[np.ndarray], np.ndarray | int], n_channels: int = 64, n_images: int = 300, n_components: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Return components of noise, and in the first one the effect of the response."""
    rng = np.random.default_rng(0)
    response = rng.normal(size=n_images)
    values = rng.normal(size=(n_channels, n_images, n_components))
    values[:, :, 0] += effect(response)
    return values, response


def test_held_out_correlations_are_those_of_transforms_fitted_elsewhere() -> None:
    """The reference fits with `spline_transforms` and reads phi and theta between the images seen."""
    values, response = layer(lambda y: 2 * y + y**2, n_channels=3, n_images=400)
    smoothness = Smoothness(0.4, 0.4, 0.1)
    folds = np.array_split(np.random.default_rng(1).permutation(400), 5)
    found = held_out_correlations(values, response, folds, [(3, smoothness), (1, smoothness)])
    assert found.shape == (2, 5, 3)
    for number, fold in enumerate(folds):
        rest = np.setdiff1d(np.arange(400), fold)
        fit = spline_transforms(values[:, rest], response[rest], smoothness)
        for channel in range(3):
            phi = sum(
                np.interp(x[fold], np.sort(x[rest]), part[np.argsort(x[rest])])
                for x, part in zip(values[channel].T, fit.phi[channel].T, strict=True)
            )
            order = np.argsort(response[rest])
            theta = np.interp(response[fold], response[rest][order], fit.theta[channel][order])
            assert found[0, number, channel] == pytest.approx(np.corrcoef(phi, theta)[0, 1], abs=0.02)


def test_of_one_component_the_first_alone_is_all() -> None:
    values, response = layer(lambda y: -y, n_channels=3, n_components=2)
    folds = np.array_split(np.arange(300), 5)
    settings = [(1, Smoothness()), (2, Smoothness())]
    whole = held_out_correlations(values, response, folds, settings)
    both = [held_out_statistics(values, response, folds, setting) for setting in settings]
    np.testing.assert_array_equal([maximal.T for maximal, _ in both], whole)
    first = [of_first for _, of_first in both]
    np.testing.assert_allclose(first[0].T, whole[0])
    assert (first[1] > 0.4).all()
    assert (np.abs(first[1] - first[0]) < 0.1).all()


def test_straight_lines_are_chosen_where_they_are_true_and_curves_where_they_are() -> None:
    straight = select_smoothness(*layer(lambda y: y), seed=0)
    assert straight.smoothness.predictors < 0.2
    assert straight.components_correlation[0] > straight.mean_correlation[:, 0, 0].max() - 0.001
    curved = select_smoothness(*layer(lambda y: y**2), seed=0)
    assert curved.smoothness.response > 0.5
    cubed = select_smoothness(*layer(lambda y: 3 * np.tanh(3 * y)), seed=0)
    assert cubed.smoothness.predictors > straight.smoothness.predictors


def test_the_choice_loses_next_to_nothing_against_the_best_setting() -> None:
    chosen = select_smoothness(*layer(lambda y: y + 0.5 * y**2), seed=0)
    assert chosen.mean_correlation.shape == chosen.weight.shape == chosen.standard_error.shape
    assert chosen.mean_correlation.shape == tuple(map(len, (chosen.shrinkage, chosen.predictors, chosen.response)))
    assert chosen.weight.sum() == pytest.approx(1)
    assert chosen.components_correlation[0] > chosen.mean_correlation.max() - 0.015


def test_as_many_components_are_chosen_as_carry_something() -> None:
    values, response = layer(lambda y: 0, n_components=12)
    values[:, :, :5] += 0.4 * response[:, None]
    choice = select_smoothness(values, response, seed=0, choose_components=True)
    assert choice.components == (1, 2, 3, 5, 7, 10, 12)
    assert 5 <= choice.n_components <= 10
    assert select_smoothness(values, response, seed=0).n_components == 12
    assert choice.smoothness == select_smoothness(values, response, seed=0).smoothness


def test_later_components_are_shrunk_where_they_are_noise() -> None:
    noisy = select_smoothness(*layer(lambda y: y, n_components=20), seed=0)
    rng = np.random.default_rng(0)
    response = rng.normal(size=300)
    all_alike = 0.35 * response[:, None] + rng.normal(size=(64, 300, 10))
    assert select_smoothness(all_alike, response, seed=0).smoothness.shrinkage < noisy.smoothness.shrinkage


@pytest.mark.parametrize("choose_components", [False, True])
def test_p_values_are_uniform_under_independence_with_the_choice_made_on_the_data(choose_components: bool) -> None:
    rng = np.random.default_rng(1)
    values, response = rng.normal(size=(500, 200, 5)), rng.normal(size=200)
    choice = select_smoothness(values, response, seed=0, choose_components=choose_components)
    values = values[:, :, : choice.n_components]
    permutations = np.array([rng.permutation(200) for _ in range(200)])
    observed = spline_correlations(values, response, choice.smoothness)
    null = permuted_spline_correlations(values, response, permutations, choice.smoothness)
    for name in ("penalised", "maximal", "first"):
        p_value = (1 + (getattr(null, name) >= getattr(observed, name)[:, None]).sum(axis=1)) / 201
        # The p-values are multiples of 1/201: spread over their step, they are uniform under independence.
        assert kstest(p_value - rng.uniform(size=500) / 201, "uniform").pvalue > 0.01, name


def test_without_association_there_is_no_choice() -> None:
    choices = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        choices.append(
            select_smoothness(rng.normal(size=(50, 100, 3)), rng.normal(size=100), seed=0, choose_components=True)
        )
    none = [each for each in choices if not each.is_associated]
    assert len(none) >= 13
    assert all(each.smoothness == TYPICAL and each.n_components == 3 for each in none)
    assert select_smoothness(*layer(lambda y: 0.3 * y), seed=0).is_associated


@pytest.mark.parametrize("n_images", [10, 13, 30])
def test_few_images_and_few_distinct_values_are_enough(n_images: int) -> None:
    rng = np.random.default_rng(2)
    values = np.round(rng.normal(size=(8, n_images, 4)))
    values[0], values[1, :, 1] = 1.0, 0.0
    response = (np.arange(n_images) % 2).astype(float)
    choice = select_smoothness(values, response, seed=0, choose_components=True)
    assert np.isfinite(choice.mean_correlation).all()
    assert 1 <= choice.n_components <= 4


def test_fewer_than_10_images_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^n_images must be at least 10 to choose the smoothness; got 9. Set it yourself.$"
    ):
        select_smoothness(np.zeros((2, 9, 1)), np.arange(9.0), seed=0)
