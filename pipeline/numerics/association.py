"""Other measures of how far a channel and the class score go together, to hold the maximal correlation against.

All take mean activations, ``(n_channels, n_images)``, or projections, ``(n_channels, n_images, n_components)``, and the
class score, ``(n_images,)``, and return a number for each channel, the larger the stronger; 0 where it does not vary.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.feature_selection import mutual_info_regression

from pipeline.arrays import Float64Array, FloatArray


def pearson(means: FloatArray, class_score: FloatArray) -> Float64Array:
    """Return the absolute value of Pearson's correlation with each channel's mean activation, in [0, 1]."""
    return multiple_correlation(means[:, :, None], class_score)


def multiple_correlation(projections: FloatArray, class_score: FloatArray) -> Float64Array:
    """Return each channel's multiple correlation R, in [0, 1]: how well a linear fit on its components does.

    R is the cosine between the centred class score and its projection onto the space that the components span.
    """
    centred = projections - projections.mean(axis=1, keepdims=True)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    rounding = np.finfo(float).eps * max(centred.shape[1:])
    is_direction = singular > rounding * np.abs(projections).max(axis=(1, 2))[:, None] * np.sqrt(centred.shape[1])
    score = class_score - class_score[0]  # a class score that is the same for all: exactly 0
    score = score - score.mean()
    score = score / max(np.sqrt(score @ score), np.finfo(float).tiny)
    explained: Float64Array = np.square(np.einsum("cnk,n->ck", left, score) * is_direction).sum(axis=1)
    return np.sqrt(np.minimum(explained, 1.0))


def distance_correlation(projections: FloatArray, class_score: FloatArray) -> Float64Array:
    """Return each channel's distance correlation, in [0, 1]; 0 in the population only under independence.

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
    """Return the mutual information with each channel's mean activation, in nats, estimated from nearest neighbours.

    References
    ----------
    Kraskov, Stögbauer and Grassberger (2004), "Estimating mutual information", as scikit-learn has it.
    """
    found: Float64Array = mutual_info_regression(means.T, class_score, random_state=seed)
    return found


def _centred_distances(points: FloatArray) -> FloatArray:
    """Return the distances between all points, (n_images, n_images), every row's and column's mean 0."""
    distances = squareform(pdist(points))
    means = distances.mean(axis=0)
    centred: FloatArray = distances - means - means[:, None] + means.mean()
    return centred
