"""The closed form of ACE with penalised splines, for stacks of matrices: what `spline_ace` is computed with.

Let A be the covariances of the predictors' functions, B those of the response's, S the covariances between the two, P
and Q the diagonal penalties. The optimal transforms have the coefficients a and b that maximise a'Sb subject to
a'(A + P)a = 1 and b'(B + Q)b = 1: the leading singular pair of a penalised canonical correlation analysis. Alternating
between the penalised regression of theta on the predictors and that of their sum on the response, as ACE does,
converges to the same pair, since each step is one half of a power iteration.

References
----------
Leurgans, Moyeed and Silverman (1993), "Canonical correlation analysis when the data are curves", JRSS B 55(3);
Breiman and Friedman (1985), "Estimating optimal transformations for multiple regression and correlation", JASA 80(391).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Float64Array, FloatArray
from pipeline.errors import InputError
from pipeline.numerics import small_systems

# Added to every penalty, in units of a function's variance. It decides what duplicated predictors and more functions
# than images leave undecided, and lowers the singular value by about as much.
NUGGET = 1e-8
# Rounding in the covariances, at most some 1e-16, is divided by the nugget where nothing varies: a singular value below
# this says nothing.
SMALLEST_VALUE = 1e-7
SMALLEST_VARIANCE = 1e-24


@dataclass(frozen=True)
class Smoothness:
    """How smooth the transforms are and how strongly later components are shrunk; the same for all channels.

    Parameters
    ----------
    predictors : float
        In [0, 1]. What the penalty leaves of the smoothest curved function of a predictor: 0 makes phi a straight
        line, 1 is an unpenalised spline. Rougher functions are shrunk more, in proportion to their roughness.
    response : float
        The same for theta.
    shrinkage : float
        At least 0. All coefficients of the j-th predictor, j = 1 ... p, are also penalised by ``shrinkage * (j - 1)``:
        in a regression on this predictor alone its straight line would be multiplied by
        ``1 / (1 + shrinkage * (j - 1))``. The signal in principal components falls with their number, so that later
        ones are mostly noise at a few hundred images. 0 treats all predictors alike.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    predictors: float = 0.3
    response: float = 0.2
    shrinkage: float = 0.0

    def __post_init__(self) -> None:
        for name in ("predictors", "response"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"smoothness.{name} must be in [0, 1]; got {getattr(self, name)}.")
        if not 0 <= self.shrinkage < np.inf:
            raise InputError(f"smoothness.shrinkage must be finite and not negative; got {self.shrinkage}.")


DEFAULT_SMOOTHNESS = Smoothness()


@dataclass(frozen=True)
class Pairs:
    """Leading singular pairs, for any number of leading axes.

    Attributes
    ----------
    penalised : ndarray of shape (...)
        The singular value, a'Sb, in [0, 1].
    maximal : ndarray of shape (...)
        Correlation of the predictors' combination with the response's, in [0, 1].
    first : ndarray of shape (...)
        Absolute correlation of the first predictor's part with the response's, in [0, 1].
    predictors : ndarray of shape (..., n_predictor_functions)
        The coefficients a; all 0 where nothing varies.
    response : ndarray of shape (..., n_response_functions)
        The coefficients b; b_1 is not negative, so that the transform rises with the response on the whole.
    """

    penalised: Float64Array
    maximal: Float64Array
    first: Float64Array
    predictors: Float64Array
    response: Float64Array


def curvature_penalty(roughness: FloatArray, curvature: float) -> Float64Array:
    """Return the penalty on each function of each variable, (..., n_functions), 0 for the straight line.

    The penalty is proportional to the roughness, and such that the coefficient of the smoothest curved function is
    multiplied by `curvature` in a regression on this variable alone: 0 leaves a straight line, 1 an unpenalised fit.
    That makes it independent of the unit and of the distribution of the variable.
    """
    if roughness.shape[-1] < 2:
        return np.zeros(roughness.shape)
    curvature = max(curvature, NUGGET)
    smoothest = roughness[..., 1:2]
    relative = roughness / np.where(smoothest > 0, smoothest, 1.0)
    penalty: Float64Array = relative * ((1 - curvature) / curvature)
    return penalty


def moments(functions: FloatArray, others: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return the covariances of `functions`, (..., q, n), among each other and with `others`, (..., k, n)."""
    n_images = functions.shape[-1]
    mean, other_mean = functions.mean(axis=-1, keepdims=True), others.mean(axis=-1, keepdims=True)
    transposed = np.swapaxes(functions, -1, -2)
    within: Float64Array = functions @ transposed / n_images - mean * np.swapaxes(mean, -1, -2)
    across: Float64Array = functions @ np.swapaxes(others, -1, -2) / n_images - mean * np.swapaxes(other_mean, -1, -2)
    return within, across


def whitener(covariance: FloatArray, penalty: FloatArray) -> Float64Array:
    """Return W with W (B + Q) W' = I, for the response's covariances and penalty, (..., k, k)."""
    whitened: Float64Array = np.linalg.inv(np.linalg.cholesky(penalised(covariance, penalty)))
    return whitened


def penalised(covariance: FloatArray, penalty: FloatArray) -> Float64Array:
    """Return covariances, (..., q, q), with the penalty, (..., q), and the nugget added to their diagonals."""
    total: Float64Array = np.empty(np.broadcast_shapes(covariance.shape, (*penalty.shape, 1)))
    total[...] = covariance
    diagonal = np.arange(total.shape[-1])
    total[..., diagonal, diagonal] += penalty + NUGGET
    return total


def regressions(covariance: FloatArray, penalties: FloatArray, cross: FloatArray) -> Float64Array:
    """Return ``(A + P)^-1 S`` for every matrix, and for several penalties of each.

    Parameters
    ----------
    covariance : ndarray of shape (..., q, q)
        A.
    penalties : ndarray of shape (m, ..., q)
        Diagonals of P without the nugget, which is added here.
    cross : ndarray of shape (..., q, k)
        S.

    Returns
    -------
    ndarray of shape (m, ..., q, k)
    """
    return small_systems.solve(covariance, penalties + NUGGET, cross)


def leading_pairs(
    cross: FloatArray,
    solved: FloatArray,
    penalty: FloatArray,
    response_penalty: FloatArray,
    response_whitener: FloatArray,
    first_covariance: FloatArray,
) -> Pairs:
    """Return the leading singular pairs.

    Parameters
    ----------
    cross : ndarray of shape (..., q, k)
        S, covariances of the q functions of the predictors with the k functions of the response.
    solved : ndarray of shape (..., q, k)
        ``(A + P)^-1 S``.
    penalty : ndarray of shape (..., q)
        Diagonal of P without the nugget, which is added here.
    response_penalty : ndarray of shape (..., k)
        Diagonal of Q without the nugget.
    response_whitener : ndarray of shape (..., k, k)
        From `whitener`.
    first_covariance : ndarray of shape (..., m, m)
        Covariances of the m functions of the first predictor, which are the first m of the q.
    """
    transposed = np.swapaxes(response_whitener, -1, -2)
    product = response_whitener @ (np.swapaxes(cross, -1, -2) @ solved) @ transposed
    square, vector = small_systems.leading_eigenpairs(product)
    value = np.sqrt(np.clip(square, 0.0, 1.0))
    b = (transposed @ vector[..., None])[..., 0]
    b = b * np.where(b[..., :1] < 0, -1.0, 1.0)
    varies = value > SMALLEST_VALUE
    inverse = np.where(varies, 1 / np.where(varies, value, 1.0), 0.0)
    a = (solved @ b[..., None])[..., 0] * inverse[..., None]

    # a'(A + P)a = 1 and b'(B + Q)b = 1, so that the variances of the transforms need no further product.
    phi_variance = 1.0 - ((penalty + NUGGET) * a * a).sum(axis=-1)
    theta_variance = 1.0 - ((response_penalty + NUGGET) * b * b).sum(axis=-1)
    n_first = first_covariance.shape[-1]
    a_first = a[..., :n_first]
    first_variance = ((first_covariance @ a_first[..., None])[..., 0] * a_first).sum(axis=-1)
    first_product = ((cross[..., :n_first, :] @ b[..., None])[..., 0] * a_first).sum(axis=-1)
    return Pairs(
        penalised=np.where(varies, value, 0.0),
        maximal=correlation(np.where(varies, value, 0.0), phi_variance, theta_variance),
        first=correlation(np.abs(first_product), first_variance, theta_variance),
        predictors=a,
        response=b,
    )


def correlation(product: Float64Array, one: Float64Array, other: Float64Array) -> Float64Array:
    """Return product / sqrt(one * other), in [-1, 1]: a correlation from a covariance and two variances.

    It is 0 where a variance is 0.
    """
    scale = np.sqrt(np.maximum(one, 0.0) * np.maximum(other, 0.0))
    is_defined = scale > SMALLEST_VARIANCE
    return np.clip(np.where(is_defined, product / np.where(is_defined, scale, 1.0), 0.0), -1.0, 1.0)
