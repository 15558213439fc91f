"""The transforms that spline ACE finds for one set of predictors, as functions that can be evaluated anywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Float64Array
from pipeline.numerics.spline_ace import SplineAceResult, spline_transforms
from pipeline.numerics.spline_basis import SplineBasis
from pipeline.numerics.spline_layer import N_FUNCTIONS, SplineLayer
from pipeline.numerics.spline_solver import Smoothness


class SplineTransforms:
    """phi_1 ... phi_p and theta, fitted to some images.

    Beyond the range of the images they are straight lines, which continue the natural splines.

    Parameters
    ----------
    predictors : array_like of shape (n_images, n_components)
        Finite.
    response : array_like of shape (n_images,)
        Finite, not constant; at least 5 images.
    smoothness : Smoothness or None
        None: the default one.
    n_functions : int
        Functions of each variable.

    Attributes
    ----------
    result : SplineAceResult
        What was found, with one channel.

    Raises
    ------
    InputError
        As `spline_ace.spline_transforms`.
    """

    def __init__(
        self,
        predictors: ArrayLike,
        response: ArrayLike,
        smoothness: Smoothness | None = None,
        *,
        n_functions: int = N_FUNCTIONS,
    ) -> None:
        channel = np.asarray(predictors, dtype=np.float64)[None]
        self.result: SplineAceResult = spline_transforms(channel, response, smoothness, n_functions=n_functions)
        layer = SplineLayer(channel, response, n_functions, 1)
        self._predictors, self._response = layer.basis_of(channel[0].T), layer.response
        self._coefficients = _coefficients(self._predictors, self.result.phi[0].T)
        self._response_coefficients = _coefficients(self._response, self.result.theta[0])

    def phi(self, predictors: ArrayLike) -> Float64Array:
        """Return phi_j of each column, (n_values, n_components), for finite values of the same shape."""
        functions = self._predictors.at(np.asarray(predictors, dtype=np.float64).T)
        return np.ascontiguousarray(np.einsum("jk,jkn->nj", self._coefficients, functions))

    def theta(self, response: ArrayLike) -> Float64Array:
        """Return theta of finite values, (n_values,)."""
        theta: Float64Array = self._response_coefficients @ self._response.at(np.asarray(response, dtype=np.float64))
        return theta


def _coefficients(basis: SplineBasis, transforms: Float64Array) -> Float64Array:
    """Return the coefficients of transforms that are combinations of the functions, which are orthonormal."""
    coefficients: Float64Array = (basis.values @ transforms[..., None])[..., 0] / transforms.shape[-1]
    return coefficients
