"""Variables with heavy tails are transformed towards normal scores before splines are fitted to them.

The maximal correlation does not depend on the scale of a variable, but a penalty on curvature does. In a variable such
as exp(x) with normal x, most images are crowded into a small part of the range, and a spline that is smooth over the
range cannot follow what happens there. On the scale of normal scores it can.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from pipeline.arrays import Float64Array, FloatArray

# A normal variable has a kurtosis of 3. Components and class scores of real networks mostly have 2.7 to 5 and are left
# as they are; between these limits the transformation sets in gradually, so that nothing jumps with the data.
UNCHANGED, FULLY_TRANSFORMED = 5.0, 10.0
N_KNOTS = 13  # about half a standard deviation apart with a few hundred images


def without_heavy_tails(x: FloatArray) -> FloatArray:
    """Return the variables, those with heavy tails transformed towards normal scores.

    The transformation is increasing. It maps quantiles of the variable to those of the normal distribution, which are
    equally spaced, and is linear between them.

    Parameters
    ----------
    x : ndarray of shape (..., n_images)
        A batch of variables with finite values.

    Returns
    -------
    ndarray of shape (..., n_images)
        `x` itself where the kurtosis is at most 5. Otherwise, with mean 0, the weighted mean of the standardised
        variable and its normal scores, with weights that change from 1 and 0 at a kurtosis of 5 to 0 and 1 at 10.
    """
    low, high = x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)
    # Halved first, because the difference of two huge values may overflow.
    reach = np.where(high > low, high / 2 - low / 2, 1.0)
    scaled = x / 2
    scaled -= low / 2
    scaled /= reach
    scaled -= scaled.mean(axis=-1, keepdims=True)
    square = scaled * scaled
    variance = square.mean(axis=-1)
    kurtosis = np.divide(
        np.square(square, out=square).mean(axis=-1),  # not `einsum`, whose order of summation depends on the batch
        variance * variance,
        out=np.zeros_like(variance),
        where=high[..., 0] > low[..., 0],
    )
    weight = np.clip((kurtosis - UNCHANGED) / (FULLY_TRANSFORMED - UNCHANGED), 0.0, 1.0)
    if not weight.any():
        return x
    result = x.copy()
    for place in map(tuple, np.argwhere(weight)):
        straight = scaled[place] / np.sqrt(variance[place])
        scores = _normal_scores(scaled[place])
        scores -= scores.mean()
        scores /= np.sqrt(np.mean(scores * scores))
        result[place] = (1 - weight[place]) * straight + weight[place] * scores
    return result


def _normal_scores(x: FloatArray) -> Float64Array:
    """Return the normal scores of one variable that varies."""
    n_images = len(x)
    most = ndtri(1 - 0.5 / n_images)
    scores = np.linspace(-most, most, N_KNOTS)
    shares = ndtr(scores)
    place = (shares - shares[0]) / (shares[-1] - shares[0]) * (n_images - 1)
    quantiles = np.interp(place, np.arange(n_images), np.sort(x))
    # Equal quantiles, where many images share a value, get the mean of their scores.
    distinct, which = np.unique(quantiles, return_inverse=True)
    result: Float64Array = np.interp(x, distinct, np.bincount(which, scores) / np.bincount(which))
    return result
