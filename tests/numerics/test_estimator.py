from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from pipeline.errors import InputError
from pipeline.numerics import AceParameters, ACERegressor
from tests.oracles.samples import breiman, wang_murphy


@parametrize_with_checks([ACERegressor()])  # type: ignore[untyped-decorator]  # scikit-learn has no annotations
def test_it_keeps_scikit_learn_s_contract(estimator: ACERegressor, check: Callable[[ACERegressor], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the checks provoke on purpose
        check(estimator)


def test_its_parameters_and_their_defaults_are_those_of_ace() -> None:
    assert ACERegressor().get_params() == asdict(AceParameters())
    assert clone(ACERegressor(bass=0, maxit=5)).get_params() == asdict(AceParameters(bass=0, maxit=5))


def test_impossible_parameters_are_refused_when_it_is_fitted() -> None:
    with pytest.raises(InputError, match=r"^bass must be in \[0, 10\]; got 11\.$"):
        ACERegressor(bass=11).fit(*breiman())


def test_breiman_s_transforms_are_found() -> None:
    found = ACERegressor().fit(*breiman(n=1000))
    new_x, new_y = breiman(n=1000, seed=99)
    assert np.corrcoef(found.transform(new_x)[:, 0], new_x[:, 0] ** 3)[0, 1] > 0.98
    assert np.corrcoef(found.transform_response(new_y), np.log(new_y))[0, 1] > 0.98
    assert found.maximal_correlation_ == pytest.approx(np.sqrt(0.5), abs=0.05)


def test_wang_and_murphy_s_five_shapes_are_found_and_predict_new_data() -> None:
    X, y = wang_murphy(n=800)
    found = ACERegressor().fit(X, y)
    grid = np.tile(np.linspace(-0.95, 0.95, 60)[:, None], 5)
    phi = found.transform(grid)
    shapes = np.column_stack([np.sin(4 * grid[:, 0]), np.abs(grid[:, 1]), grid[:, 2] ** 2, grid[:, 3] ** 3, grid[:, 4]])
    for feature in range(5):
        assert abs(np.corrcoef(phi[:, feature], shapes[:, feature])[0, 1]) > 0.97, feature
    assert found.score(*wang_murphy(n=800, seed=99)) > 0.95
    assert found.n_iter_ >= 3


def test_outside_what_was_seen_transforms_are_flat() -> None:
    X, y = breiman()
    found = ACERegressor().fit(X, y)
    inside = found.transform([X.min(axis=0), X.max(axis=0)])
    np.testing.assert_array_equal(found.transform([[-1e9], [1e9]]), inside)


def test_at_the_points_seen_transforms_are_the_solver_s() -> None:
    from pipeline.numerics import optimal_transforms

    X, y = wang_murphy()
    found, solved = ACERegressor().fit(X, y), optimal_transforms(X[None], y)
    np.testing.assert_allclose(found.transform(X), solved.phi[0], atol=1e-12)
    np.testing.assert_allclose(found.transform_response(y), solved.theta[0], atol=1e-12)
    assert found.maximal_correlation_ == solved.maximal[0]


def test_a_constant_response_is_refused() -> None:
    with pytest.raises(InputError, match=r"^response must differ between images; got 2 for every one\.$"):
        ACERegressor().fit(np.arange(10.0)[:, None], np.full(10, 2.0))
