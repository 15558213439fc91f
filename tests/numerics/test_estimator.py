"""The scikit-learn estimator of ACE, with both smoothers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from pipeline.errors import InputError
from pipeline.numerics import AceParameters, ACERegressor, Smoothness, optimal_transforms
from pipeline.numerics.ace import Smoother
from tests.oracles.samples import breiman, wang_murphy

SMOOTHERS: tuple[Smoother, ...] = ("spline", "supersmoother")


@parametrize_with_checks([ACERegressor(smoother=each) for each in SMOOTHERS])  # type: ignore[untyped-decorator]  # scikit-learn has no annotations
def test_it_keeps_scikit_learn_s_contract(estimator: ACERegressor, check: Callable[[ACERegressor], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the checks provoke on purpose
        check(estimator)


def test_its_parameters_and_their_defaults_are_those_of_ace() -> None:
    other = {"smoother": "spline", "smoothness": None}
    assert ACERegressor().get_params() == asdict(AceParameters()) | other
    assert clone(ACERegressor(bass=0, maxit=5)).get_params() == asdict(AceParameters(bass=0, maxit=5)) | other
    assert clone(ACERegressor(smoother="spline")).get_params()["smoother"] == "spline"
    assert clone(ACERegressor(smoother="supersmoother")).get_params()["smoother"] == "supersmoother"
    assert clone(ACERegressor(smoothness=(0.5, 0.4, 0.0))).get_params()["smoothness"] == (0.5, 0.4, 0.0)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bass": 11}, r"bass must be in \[0, 10\]; got 11\."),
        ({"smoothness": (0.5, 2, 0)}, r"smoothness\.response must be in \[0, 1\]; got 2\."),
        ({"smoother": "kernel"}, r"smoother must be 'spline' or 'supersmoother'; got 'kernel'\."),
    ],
)
def test_impossible_parameters_are_refused_when_it_is_fitted(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        ACERegressor(**({"smoother": "spline"} | parameters)).fit(*breiman())


@pytest.mark.parametrize(("smoother", "least"), [("spline", 0.95), ("supersmoother", 0.98)])
def test_breiman_s_transforms_are_found(smoother: Smoother, least: float) -> None:
    """The response is lognormal, with heavy tails."""
    found = ACERegressor(smoother=smoother).fit(*breiman(n=1000))
    new_x, new_y = breiman(n=1000, seed=99)
    assert np.corrcoef(found.transform(new_x)[:, 0], new_x[:, 0] ** 3)[0, 1] > least
    assert np.corrcoef(found.transform_response(new_y), np.log(new_y))[0, 1] > 0.98
    assert found.maximal_correlation_ == pytest.approx(np.sqrt(0.5), abs=0.05)


def test_splines_find_breiman_s_transforms_of_the_response_s_logarithm() -> None:
    X, y = breiman(n=1000)
    found = ACERegressor(smoother="spline").fit(X, np.log(y))
    new_x, new_y = breiman(n=1000, seed=99)
    assert np.corrcoef(found.transform(new_x)[:, 0], new_x[:, 0] ** 3)[0, 1] > 0.95
    assert np.corrcoef(found.transform_response(np.log(new_y)), np.log(new_y))[0, 1] > 0.98
    assert found.maximal_correlation_ == pytest.approx(np.sqrt(0.5), abs=0.05)


@pytest.mark.parametrize("smoother", SMOOTHERS)
def test_wang_and_murphy_s_five_shapes_are_found_and_predict_new_data(smoother: Smoother) -> None:
    X, y = wang_murphy(n=800)
    found = ACERegressor(smoother=smoother).fit(X, y)
    grid = np.tile(np.linspace(-0.95, 0.95, 60)[:, None], 5)
    phi = found.transform(grid)
    shapes = np.column_stack([np.sin(4 * grid[:, 0]), np.abs(grid[:, 1]), grid[:, 2] ** 2, grid[:, 3] ** 3, grid[:, 4]])
    for feature in range(5):
        assert abs(np.corrcoef(phi[:, feature], shapes[:, feature])[0, 1]) > 0.97, feature
    assert found.score(*wang_murphy(n=800, seed=99)) > 0.95
    assert found.n_iter_ >= 3 if smoother == "supersmoother" else found.n_iter_ == 1


@pytest.mark.parametrize("smoother", SMOOTHERS)
def test_outside_what_was_seen_transforms_are_flat(smoother: Smoother) -> None:
    X, y = breiman()
    found = ACERegressor(smoother=smoother).fit(X, y)
    inside = found.transform([X.min(axis=0), X.max(axis=0)])
    np.testing.assert_array_equal(found.transform([[-1e9], [1e9]]), inside)


@pytest.mark.parametrize("smoother", SMOOTHERS)
def test_at_the_points_seen_transforms_are_the_solver_s(smoother: Smoother) -> None:
    X, y = wang_murphy()
    found, solved = ACERegressor(smoother=smoother).fit(X, y), optimal_transforms(X[None], y, smoother=smoother)
    np.testing.assert_allclose(found.transform(X), solved.phi[0], atol=1e-12)
    np.testing.assert_allclose(found.transform_response(y), solved.theta[0], atol=1e-12)
    assert found.maximal_correlation_ == solved.maximal[0]
    assert found.r_squared_ == solved.r_squared[0]


def test_the_smoothness_is_the_given_one_or_chosen_by_cross_validation() -> None:
    X, y = wang_murphy()
    given = ACERegressor(smoother="spline", smoothness=(0.9, 0.5, 0.1)).fit(X, y)
    assert given.smoothness_ == (0.9, 0.5, 0.1)
    solved = optimal_transforms(X[None], y, smoother="spline", smoothness=Smoothness(0.9, 0.5, 0.1))
    assert given.maximal_correlation_ == solved.maximal[0]
    assert ACERegressor(smoother="spline").fit(X, y).smoothness_ != given.smoothness_
    assert ACERegressor().fit(X, y).smoothness_ == ACERegressor(smoother="spline").fit(X, y).smoothness_
    assert ACERegressor(smoother="supersmoother").fit(X, y).smoothness_ is None
    few = ACERegressor(smoother="spline").fit(X[:9], y[:9])  # too few samples to choose it
    assert few.smoothness_ == (Smoothness().predictors, Smoothness().response, Smoothness().shrinkage)


@pytest.mark.parametrize("smoother", SMOOTHERS)
def test_a_constant_response_is_refused(smoother: Smoother) -> None:
    with pytest.raises(InputError, match=r"^response must differ between images; got 2 for every one\.$"):
        ACERegressor(smoother=smoother).fit(np.arange(10.0)[:, None], np.full(10, 2.0))
