"""Choosing how smooth the transforms of a layer are, and how many components enter, by cross-validation.

One channel cannot tell its own smoothness from a few hundred images; the channels of a layer together can. For every
setting on a grid the transforms are fitted to all folds of the images but one, and the correlation of the transforms is
computed on that one. A setting is judged by the mean of Fisher's z over folds and channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import InputError
from pipeline.numerics.spline_basis import SplineBasis
from pipeline.numerics.spline_layer import MIN_IMAGES, N_FUNCTIONS, SplineLayer, all_functions, predictor_penalty
from pipeline.numerics.spline_solver import Smoothness, correlation, leading_pairs, moments, penalised

FloatArray = NDArray[np.floating[Any]]
Vector = NDArray[np.float64]
Setting = tuple[int, Smoothness]  # components that enter, and the smoothness

PREDICTORS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
RESPONSE = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
SHRINKAGE = (0.0, 0.0625, 0.125, 0.25, 0.5)
LARGEST = 1 - 1e-6  # held-out correlations are limited to this before Fisher's transformation


def held_out_correlations(
    predictors: ArrayLike,
    response: ArrayLike,
    folds: Sequence[NDArray[np.int64]],
    settings: Sequence[Setting],
    *,
    n_functions: int = N_FUNCTIONS,
    n_threads: int | None = None,
) -> Vector:
    """Return corr(sum of phi, theta) on each fold, of transforms fitted to the images outside of it.

    The functions of all images are used, whose knots do not depend on which class score belongs to which image.

    Parameters
    ----------
    predictors, response, n_functions, n_threads
        As in `spline_ace.spline_transforms`.
    folds : sequence of ndarray of int64
        Indices of the images of each fold.
    settings : sequence of (int, Smoothness)
        The number of leading components that enter, and the smoothness.

    Returns
    -------
    ndarray of shape (n_settings, n_folds, n_channels)
        In [-1, 1]; 0 where a transform does not vary on the fold.
    """
    layer = SplineLayer(predictors, response, n_functions, n_threads)
    found = np.zeros((len(settings), len(folds), layer.n_channels))
    values = layer.response.values
    fitted = [np.setdiff1d(np.arange(layer.n_images), fold) for fold in folds]
    own = [(moments(values[:, rest], values[:, rest])[0], moments(values[:, fold], values[:, fold])[0])
           for rest, fold in zip(fitted, folds, strict=True)]  # fmt: skip
    # Settings that differ in the response's smoothness alone share the regression on the predictors.
    shared: dict[tuple[int, float, float], list[int]] = {}
    for number, (n_components, each) in enumerate(settings):
        shared.setdefault((n_components, each.predictors, each.shrinkage), []).append(number)
    sides = {
        (fold, each.response): layer.response_side(each, own[fold][0])
        for fold in range(len(folds))
        for _, each in settings
    }

    def work(first: int, basis: SplineBasis) -> None:
        functions, channels = all_functions(basis), slice(first, first + len(basis.values))
        for fold, (rest, held) in enumerate(zip(fitted, folds, strict=True)):
            within, cross = moments(functions[:, :, rest], values[:, rest])
            held_within, held_cross = moments(functions[:, :, held], values[:, held])
            for members in shared.values():
                n_components, smoothness = settings[members[0]]
                used = slice(n_components * n_functions)
                penalty = predictor_penalty(basis, smoothness)[:, used]
                solved = np.linalg.solve(penalised(within[:, used, used], penalty), cross[:, used])
                for member in members:
                    side = sides[fold, settings[member][1].response]
                    pairs = leading_pairs(cross[:, used], solved, penalty, *side, within[:, :1, :1])
                    found[member, fold, channels] = _held_out(
                        pairs.predictors, pairs.response, held_within[:, used, used], held_cross[:, used], own[fold][1]
                    )

    layer.each_chunk(work)
    return found


def _held_out(a: Vector, b: Vector, within: Vector, cross: Vector, response_within: Vector) -> Vector:
    """Return the correlations of the combinations with coefficients `a`, (n, q), and `b`, (n, k)."""
    covariance = (a * (cross @ b[:, :, None])[:, :, 0]).sum(axis=1)
    phi_variance = (a * (within @ a[:, :, None])[:, :, 0]).sum(axis=1)
    theta_variance = (b * (b @ response_within)).sum(axis=1)
    return correlation(covariance, phi_variance, theta_variance)
