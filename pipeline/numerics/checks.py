"""Checks of the arrays that the estimators of the maximal correlation take."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Float64Array, Int64Array
from pipeline.errors import InputError

MIN_IMAGES = 5  # with fewer, neither smoother can be fitted


def checked_predictors(predictors: ArrayLike) -> Float64Array:
    """Return the predictors as float64, or raise `InputError` as documented in `ace.optimal_transforms`."""
    # Writable as well: numba would compile the solver a second time for read-only arrays.
    values = np.require(predictors, dtype=np.float64, requirements=["C", "W"])
    if values.ndim != 3 or values.shape[2] < 1:
        raise InputError(f"predictors must have the shape (n_channels, n_images, n_components); got {values.shape}.")
    if values.shape[1] < MIN_IMAGES:
        raise InputError(f"n_images must be at least {MIN_IMAGES}; got {values.shape[1]}.")
    if not np.isfinite(values).all():
        raise InputError("predictors must be finite; got NaN or infinity. Check the activations.")
    return values


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
