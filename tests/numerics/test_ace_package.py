from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.numerics.ace_package import ChannelFit, fit_channel


def fit(projections: np.ndarray, class_score: np.ndarray) -> ChannelFit:
    return fit_channel(projections, class_score, delrsq=0.01, maxit=20, nterm=3)


def test_the_signal_in_the_third_component_is_found_by_maximal_alone() -> None:
    rng = np.random.default_rng(0)
    projections = rng.normal(size=(300, 5))
    found = fit(projections, projections[:, 2] ** 2 + 0.01 * rng.normal(size=300))
    assert found.maximal > 0.98
    assert found.first < 0.3


def test_bivariate_normals_give_about_their_correlation() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=2000)
    y = 0.7 * x + np.sqrt(1 - 0.49) * rng.normal(size=2000)
    assert fit(x[:, None], y).maximal == pytest.approx(0.7, abs=0.05)


def test_theta_is_standardised_and_r_squared_is_what_the_transforms_say() -> None:
    rng = np.random.default_rng(2)
    projections = rng.normal(size=(100, 2))
    found = fit(projections, np.exp(projections[:, 0] + 0.3 * rng.normal(size=100)))
    assert found.theta.mean() == pytest.approx(0, abs=1e-12)
    assert found.theta.std() == pytest.approx(1, abs=1e-12)
    assert found.r_squared == pytest.approx(1 - np.mean((found.theta - found.phi.sum(axis=1)) ** 2), abs=1e-12)
    assert found.maximal == pytest.approx(np.corrcoef(found.phi.sum(axis=1), found.theta)[0, 1], abs=1e-12)
    assert found.first == pytest.approx(abs(np.corrcoef(found.phi[:, 0], found.theta)[0, 1]), abs=1e-12)


def test_a_component_that_never_varies_gets_no_transform() -> None:
    rng = np.random.default_rng(3)
    projections = np.column_stack([rng.normal(size=50), np.zeros(50)])
    found = fit(projections, projections[:, 0] + 0.1 * rng.normal(size=50))
    assert (found.phi[:, 1] == 0).all()
    assert found.maximal > 0.9


def test_what_the_package_would_answer_with_nan_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    projections = np.random.default_rng(4).normal(size=(20, 2))
    with pytest.raises(InputError, match=r"^class scores must differ between images; got 3 for every one\.$"):
        fit(projections, np.full(20, 3.0))
    projections[3, 1] = np.inf
    with pytest.raises(InputError, match=r"^projections and class scores must be finite; got NaN or infinity\."):
        fit(projections, np.arange(20.0))
    assert capsys.readouterr().out == ""
