"""Checks of the arrays that the estimators of the maximal correlation take."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Float64Array, Int64Array
from pipeline.errors import InputError
from pipeline.numerics.predictors import Predictors


def checked_predictors(predictors: ArrayLike | Predictors) -> Float64Array:
    """Return the predictors as float64, or raise `InputError` as documented in `ace.optimal_transforms`."""
    # Writable as well: numba would compile the solver a second time for read-only arrays.
    checked = Predictors.of(predictors)
    return np.require(checked.read(0, len(checked)), requirements=["C", "W"])


def checked_response(response: ArrayLike, n_images: int) -> Float64Array:
    """Return the response as float64, or raise `InputError` as documented in `ace.optimal_transforms`."""
    values = np.asarray(response, dtype=np.float64)
    if values.shape != (n_images,):
        raise InputError(f"response must hold one value for each of the {n_images} images; got shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError("response must be finite; got NaN or infinity. Check the class scores.")
    if (values == values[0]).all():
        raise InputError(f"response must differ between images; got {values[0]:g} for every one.")
    return values


def checked_permutations(permutations: ArrayLike, n_images: int) -> Int64Array:
    """Return the permutations as int64, or raise `InputError` if a row is not a permutation of the images."""
    indices = np.asarray(permutations, dtype=np.int64)
    every = np.broadcast_to(np.arange(n_images), (len(indices), n_images))
    if indices.ndim != 2 or not np.array_equal(np.sort(indices, axis=1), every):
        raise InputError(
            f"permutations must have each index from 0 to {n_images - 1} once in every row; "
            f"got an array of shape {indices.shape}."
        )
    return indices
