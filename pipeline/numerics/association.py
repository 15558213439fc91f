"""Other measures of association between a channel and the class score, for comparison with the maximal correlation.

Each function takes either mean activations of shape (n_channels, n_images) or projections of shape (n_channels,
n_images, n_components), and class scores of shape (n_images,). It returns one value for each channel, larger for a
stronger association, and 0 for a channel that does not vary.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.feature_selection import mutual_info_regression

from pipeline.arrays import Float64Array, FloatArray
from pipeline.numerics.predictors import Predictors

VALUES_AT_ONCE = 2**24  # of the projections of the channels whose multiple correlations are computed together


def pearson(means: FloatArray, class_score: FloatArray) -> Float64Array:
    """Return the absolute Pearson correlation of each channel's mean activation with the class score, in [0, 1]."""
    return multiple_correlation(means[:, :, None], class_score)


def multiple_correlation(projections: FloatArray | Predictors, class_score: FloatArray) -> Float64Array:
    """Return the multiple correlation R of each channel's components with the class score, in [0, 1].

    R is the correlation of the class score with its linear regression on the components: the cosine of the angle
    between the centred class scores and their projection onto the span of the centred components.
    """
    predictors = projections if isinstance(projections, Predictors) else Predictors(projections)
    n_channels, n_images, n_components = predictors.shape
    score = class_score - class_score[0]  # exactly 0 where all class scores are equal
    score = score - score.mean()
    score = score / max(np.sqrt(score @ score), np.finfo(float).tiny)
    found = np.empty(n_channels)
    step = max(1, VALUES_AT_ONCE // (n_images * n_components))
    for start in range(0, n_channels, step):
        values = predictors.read(start, min(start + step, n_channels))
        centred = values - values.mean(axis=1, keepdims=True)
        left, singular, _ = np.linalg.svd(centred, full_matrices=False)
        rounding = np.finfo(float).eps * max(centred.shape[1:])
        is_direction = singular > rounding * np.abs(values).max(axis=(1, 2))[:, None] * np.sqrt(n_images)
        explained = np.square(np.einsum("cnk,n->ck", left, score) * is_direction).sum(axis=1)
        found[start : start + step] = np.sqrt(np.minimum(explained, 1.0))
    return found


def distance_correlation(projections: FloatArray, class_score: FloatArray) -> Float64Array:
    """Return the distance correlation of each channel's components with the class score, in [0, 1].

    In the population it is 0 only under independence. This is the biased sample estimate (the V-statistic).

    References
    ----------
    Székely, Rizzo and Bakirov (2007), "Measuring and testing dependence by correlation of distances".
    """
    score = _centred_distances(class_score[:, None])
    scale = np.mean(score**2)
    found = np.zeros(len(projections))
    for channel, values in enumerate(projections):
        distances = _centred_distances(values)
        own = np.mean(distances**2)
        if own > 0 and scale > 0:
            found[channel] = np.sqrt(max(0.0, float(np.mean(distances * score))) / np.sqrt(own * scale))
    return found


def mutual_information(means: FloatArray, class_score: FloatArray, seed: int) -> Float64Array:
    """Return the mutual information of each channel's mean activation and the class score, in nats.

    It is estimated from nearest neighbours by scikit-learn, which breaks ties by noise drawn with `seed`.

    References
    ----------
    Kraskov, Stögbauer and Grassberger (2004), "Estimating mutual information", Physical Review E 69.
    """
    found: Float64Array = mutual_info_regression(means.T, class_score, random_state=seed)
    return found


def _centred_distances(points: FloatArray) -> FloatArray:
    """Return the distances between all points, (n_images, n_images), double-centred: rows and columns have mean 0."""
    distances = squareform(pdist(points))
    means = distances.mean(axis=0)
    centred: FloatArray = distances - means - means[:, None] + means.mean()
    return centred
