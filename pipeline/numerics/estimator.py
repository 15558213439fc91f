"""ACE as a scikit-learn estimator, which is fitted to some data and transforms and predicts other data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, RegressorMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline.arrays import Float64Array
from pipeline.numerics.ace import Smoother, SplineAce, ace_estimator
from pipeline.numerics.parameters import DEFAULT_PARAMETERS, AceParameters
from pipeline.numerics.predictors import MIN_IMAGES
from pipeline.numerics.spline_ace import spline_regression
from pipeline.numerics.spline_solver import Smoothness

Knots = tuple[Float64Array, Float64Array]


class ACERegressor(OneToOneFeatureMixin, TransformerMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Regression by Alternating Conditional Expectations (ACE).

    The estimator finds transforms phi_1 ... phi_p of the predictors and theta of the response that maximise
    corr(phi_1(x_1) + ... + phi_p(x_p), theta(y)). They are penalised splines, or estimated by Friedman's
    supersmoother. A plot of `transform` against X shows the shape of each predictor's effect.

    Parameters
    ----------
    smoother : {"spline", "supersmoother"}, default="spline"
        How the transforms are estimated: by penalised splines, in closed form, or by Friedman's supersmoother, in
        iterations. `bass`, `spans`, `delrsq`, `maxit` and `nterm` are those of the supersmoother, and must be left at
        their defaults with splines.
    smoothness : sequence of 3 floats or None, default=None
        Smoothness of the splines, as in `pipeline.numerics.Smoothness`. None: chosen by cross-validation.
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
        For each predictor, its distinct values in increasing order and phi at these values.
    theta_knots_ : (ndarray, ndarray)
        The same for the response and theta.
    prediction_knots_ : (ndarray, ndarray)
        The distinct values of phi_1 + ... + phi_p in increasing order and the expected response at these values.
    maximal_correlation_ : float
        corr(phi_1 + ... + phi_p, theta) on the training data. It is biased upwards, more so with fewer samples.
    r_squared_ : float
        1 - mean((theta - phi_1 - ... - phi_p)^2) on the training data.
    smoothness_ : tuple of 3 floats or None
        Smoothness of the splines; None with the supersmoother.
    n_iter_ : int
        Number of outer iterations; 1 with splines, whose solution is a closed form.
    n_features_in_ : int
        Number of predictors.

    References
    ----------
    Breiman and Friedman (1985), "Estimating optimal transformations for multiple regression and correlation",
    JASA 80(391).

    Examples
    --------
    >>> import numpy as np
    >>> from pcace import ACERegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 1))
    >>> y = X[:, 0] ** 2 + 0.1 * rng.normal(size=500)
    >>> bool(ACERegressor().fit(X, y).maximal_correlation_ > 0.99)
    True
    """

    def __init__(
        self,
        *,
        smoother: Smoother = "spline",
        smoothness: Sequence[float] | None = None,
        bass: float = DEFAULT_PARAMETERS.bass,
        spans: Sequence[float] = DEFAULT_PARAMETERS.spans,
        delrsq: float = DEFAULT_PARAMETERS.delrsq,
        maxit: int = DEFAULT_PARAMETERS.maxit,
        nterm: int = DEFAULT_PARAMETERS.nterm,
    ) -> None:
        self.smoother = smoother
        self.smoothness = smoothness
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
            Finite values; at least 5 samples. A feature that does not vary gets phi = 0.
        y : array_like of shape (n_samples,)
            Finite values that are not all equal.

        Returns
        -------
        ACERegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If y is constant, a value is not finite, there are fewer than 5 samples, or a parameter is out of its range.
        """
        checked: tuple[Float64Array, Float64Array] = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=MIN_IMAGES
        )
        predictors, response = checked[0], checked[1].astype(np.float64)
        parameters = AceParameters(
            bass=self.bass, spans=self.spans, delrsq=self.delrsq, maxit=self.maxit, nterm=self.nterm
        )
        smoothness = None if self.smoothness is None else Smoothness(*self.smoothness)
        estimator = ace_estimator(
            self.smoother, predictors[None], response, parameters=parameters, smoothness=smoothness
        )
        found = estimator.fit(predictors[None], response)
        phi, theta = found.phi[0], found.theta[0]
        total = phi.sum(axis=1)
        self.phi_knots_ = [_knots(predictors[:, j], phi[:, j]) for j in range(phi.shape[1])]
        self.theta_knots_ = _knots(response, theta)
        if isinstance(estimator, SplineAce):
            chosen = estimator.smoothness
            self.smoothness_: tuple[float, float, float] | None = (chosen.predictors, chosen.response, chosen.shrinkage)
            expected = spline_regression(total, response, chosen.predictors)
        else:
            # Imported here: the compiled supersmoother takes a second to import, and splines do without it.
            from pipeline.numerics.supersmoother import supersmooth

            self.smoothness_ = None
            expected = supersmooth(total, response, bass=self.bass, spans=self.spans)
        self.prediction_knots_ = _knots(total, expected)
        self.maximal_correlation_ = float(found.maximal[0])
        self.r_squared_ = float(found.r_squared[0])
        self.n_iter_ = 1 if found.iterations is None else int(found.iterations[0])
        return self

    def transform(self, X: ArrayLike) -> Float64Array:  # noqa: N803
        """Return the transforms phi_j(x_j) of the predictors.

        Between the values in the training data they are interpolated linearly, and outside of their range they are
        constant.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Finite values.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The transforms.
        """
        check_is_fitted(self)
        checked: Float64Array = validate_data(self, X, dtype=np.float64, reset=False)
        return np.column_stack([np.interp(checked[:, j], *knots) for j, knots in enumerate(self.phi_knots_)])

    def transform_response(self, y: ArrayLike) -> Float64Array:
        """Return the transform theta(y) of the response, interpolated as in `transform`.

        Parameters
        ----------
        y : array_like of shape (n_samples,)
            Finite values.

        Returns
        -------
        ndarray of shape (n_samples,)
            The transform.
        """
        check_is_fitted(self)
        theta: Float64Array = np.interp(np.asarray(y, dtype=np.float64), *self.theta_knots_)
        return theta

    def predict(self, X: ArrayLike) -> Float64Array:  # noqa: N803
        """Return the expected response given phi_1 + ... + phi_p, as estimated by the smoother.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)
            Finite values.

        Returns
        -------
        ndarray of shape (n_samples,)
            The expected response.
        """
        expected: Float64Array = np.interp(self.transform(X).sum(axis=1), *self.prediction_knots_)
        return expected


def _knots(x: Float64Array, values: Float64Array) -> Knots:
    """Return the distinct x in increasing order and the values there, which equal x share except for rounding."""
    distinct, first = np.unique(x, return_index=True)
    return distinct, values[first]
