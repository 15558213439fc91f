"""ACE as a scikit-learn estimator: fit on some data, transform and predict other data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, RegressorMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline.arrays import Float64Array
from pipeline.numerics.ace import optimal_transforms
from pipeline.numerics.parameters import DEFAULT_PARAMETERS, AceParameters
from pipeline.numerics.supersmoother import MIN_POINTS, supersmooth

Knots = tuple[Float64Array, Float64Array]


class ACERegressor(OneToOneFeatureMixin, TransformerMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Alternating Conditional Expectations: transforms of predictors and response that correlate as much as they can.

    Finds phi_1 ... phi_p and theta that maximise corr(phi_1(x_1) + ... + phi_p(x_p), theta(y)), each estimated by
    Friedman's supersmoother. Read `transform` against X to see the shape of each predictor's effect.

    Parameters
    ----------
    bass : float, default=5.0
        Smoothness of the transforms, in [0, 10]; larger is smoother. R's acepack always uses 5.
    spans : sequence of 3 floats, default=(0.05, 0.2, 0.5)
        Widths of the supersmoother's windows as shares of the samples, increasing, in (0, 1].
    delrsq : float, default=0.01
        Convergence threshold, in [0, 1]: the iterations stop when R squared has changed by at most this over `nterm`
        outer iterations.
    maxit : int, default=20
        Maximum number of outer iterations, and of passes over the predictors within one outer iteration.
    nterm : int, default=3
        Number of outer iterations over which the change of R squared is compared with `delrsq`.

    Attributes
    ----------
    phi_knots_ : list of (ndarray, ndarray)
        For each predictor its distinct values, rising, and phi there.
    theta_knots_ : (ndarray, ndarray)
        The same for the response.
    prediction_knots_ : (ndarray, ndarray)
        Distinct sums of phi, rising, and the expected response there.
    maximal_correlation_ : float
        corr(sum of phi, theta) on the data fitted to: biased upwards, the more so the fewer the samples.
    r_squared_ : float
        1 - mean((theta - sum of phi)^2) on these data.
    n_iter_ : int
        Outer rounds.
    n_features_in_ : int
        Number of predictors.

    References
    ----------
    Breiman and Friedman (1985), "Estimating optimal transformations for multiple regression and correlation",
    JASA 80(391).

    Examples
    --------
    >>> import numpy as np
    >>> from pipeline.numerics import ACERegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 1))
    >>> y = np.exp(X[:, 0] ** 2 + 0.1 * rng.normal(size=500))
    >>> bool(ACERegressor().fit(X, y).maximal_correlation_ > 0.99)
    True
    """

    def __init__(
        self,
        *,
        bass: float = DEFAULT_PARAMETERS.bass,
        spans: Sequence[float] = DEFAULT_PARAMETERS.spans,
        delrsq: float = DEFAULT_PARAMETERS.delrsq,
        maxit: int = DEFAULT_PARAMETERS.maxit,
        nterm: int = DEFAULT_PARAMETERS.nterm,
    ) -> None:
        self.bass = bass
        self.spans = spans
        self.delrsq = delrsq
        self.maxit = maxit
        self.nterm = nterm

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803 (scikit-learn's name)
        """Find the transforms.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Finite; at least 5 samples. A feature that never varies gets phi = 0.
        y : array_like of shape (n_samples,)
            Finite, not constant.

        Raises
        ------
        ValueError
            If y is constant, a value is not finite, there are fewer than 5 samples, or a parameter is out of its range.
        """
        checked: tuple[Float64Array, Float64Array] = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=MIN_POINTS
        )
        predictors, response = checked[0], checked[1].astype(np.float64)
        parameters = AceParameters(
            bass=self.bass, spans=self.spans, delrsq=self.delrsq, maxit=self.maxit, nterm=self.nterm
        )
        found = optimal_transforms(predictors[None], response, parameters=parameters)
        phi, theta = found.phi[0], found.theta[0]
        total = phi.sum(axis=1)
        self.phi_knots_ = [_knots(predictors[:, j], phi[:, j]) for j in range(phi.shape[1])]
        self.theta_knots_ = _knots(response, theta)
        self.prediction_knots_ = _knots(total, supersmooth(total, response, bass=self.bass, spans=self.spans))
        self.maximal_correlation_ = float(found.maximal[0])
        self.r_squared_ = float(found.r_squared[0])
        self.n_iter_ = int(found.iterations[0])
        return self

    def transform(self, X: ArrayLike) -> Float64Array:  # noqa: N803
        """Return phi_j(x_j), (n_samples, n_features): straight lines between the values seen, held flat outside."""
        check_is_fitted(self)
        checked: Float64Array = validate_data(self, X, dtype=np.float64, reset=False)
        return np.column_stack([np.interp(checked[:, j], *knots) for j, knots in enumerate(self.phi_knots_)])

    def transform_response(self, y: ArrayLike) -> Float64Array:
        """Return theta(y), (n_samples,): straight lines between the values seen, held flat outside."""
        check_is_fitted(self)
        theta: Float64Array = np.interp(np.asarray(y, dtype=np.float64), *self.theta_knots_)
        return theta

    def predict(self, X: ArrayLike) -> Float64Array:  # noqa: N803
        """Return E[y | sum of phi], (n_samples,), by the supersmoother."""
        expected: Float64Array = np.interp(self.transform(X).sum(axis=1), *self.prediction_knots_)
        return expected


def _knots(x: Float64Array, values: Float64Array) -> Knots:
    """Return the distinct x, rising, and the values there; equal x have equal values, up to rounding."""
    distinct, first = np.unique(x, return_index=True)
    return distinct, values[first]
