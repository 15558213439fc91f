"""What a layer as a whole says of the class score: a linear probe, evaluated on held-out images.

A linear probe (Alain and Bengio, 2016, "Understanding intermediate layers using linear classifier probes") predicts the
class score from a layer by ridge regression. Its predictors are the principal components of all channels, that is, what
the scores of the single channels are computed from.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from pipeline.arrays import Float64Array, FloatArray, Int64Array
from pipeline.numerics.ace import correlation
from pipeline.numerics.evidence import CONFIDENCE
from pipeline.numerics.groups import Groups

N_FOLDS = 5
N_REPEATS = 2
MOST_IMAGES = 4096  # memory grows with the square of their number, time with the third power
THREADS_BYTES = 2**28  # of matrices of inner products in all threads: with many images, one thread works alone
MIN_FOLD = 3  # with fewer images in a fold, a correlation says nothing
# Penalties that cross-validation chooses from, as multiples of the mean squared length of an image's predictors.
PENALTIES = np.logspace(-5, 3, 17)


@dataclass(frozen=True)
class Association:
    """Correlation between predicted and true class scores of held-out images, with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def linear_probe(
    projections: FloatArray, class_score: FloatArray, *, seed: int, groups: Groups | None = None
) -> Association | None:
    """Return how well the class score of an image can be predicted linearly from all channels of a layer.

    The images are divided into 5 folds. Those of each fold are predicted by a ridge regression on the other folds,
    whose penalty is chosen by cross-validation among those other folds. The correlations in the folds are averaged, as
    in `pipeline.numerics.evidence.cross_fitted`, over two random partitions. No image contributes to its own
    prediction, apart from the principal components, which do not depend on the class scores.

    If more than `MOST_IMAGES` images differ, so many are drawn at random, without their copies, and the interval is the
    one for that number of images.

    Parameters
    ----------
    projections : ndarray of shape (n_channels, n_images, n_components)
        Principal components of every channel. Channels are scaled to the same total variance; dead ones do not count.
    class_score : ndarray of shape (n_images,)
        The class scores.
    seed : int
        Seed of the partitions.
    groups : Groups or None
        Copies among the images, which are held out together; None if all images differ.

    Returns
    -------
    Association or None
        The correlation, in [-1, 1], and its interval. It is near 0 without an association.
        None if there are too few images, or no channel varies.
    """
    groups = groups or Groups.without_copies(len(class_score))
    rng = np.random.default_rng([seed, 4])
    chosen: Int64Array | slice = slice(None)
    if len(groups) > MOST_IMAGES:
        drawn = np.sort(groups.firsts[rng.permutation(len(groups))[:MOST_IMAGES]])
        class_score, chosen, groups = class_score[drawn], drawn, Groups.without_copies(MOST_IMAGES)
    kernel = _kernel(projections, chosen)
    if len(groups) < N_FOLDS * MIN_FOLD or not kernel.any():
        return None
    tasks = []
    for _ in range(N_REPEATS):
        for fold in np.array_split(rng.permutation(len(groups)), N_FOLDS):
            kept = np.setdiff1d(np.arange(len(groups)), fold)
            inner = [groups.images(each) for each in np.array_split(rng.permutation(kept), N_FOLDS)]
            tasks.append((inner, groups.images(fold)))
    # The last digits depend on the number of BLAS threads, and not on the number of these.
    n_threads = max(1, min(os.cpu_count() or 1, THREADS_BYTES // (4 * kernel.nbytes)))
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_threads) as threads:
        found = list(threads.map(lambda task: _held_out(kernel, class_score, *task), tasks))
    return _interval(float(np.mean(found)), len(groups))


def _kernel(projections: FloatArray, chosen: Int64Array | slice) -> Float64Array:
    """Return the inner products of the predictors of some images, (n_images, n_images), with a mean diagonal of 1."""
    n_images = len(projections[0, chosen])
    kernel = np.zeros((n_images, n_images))
    with threadpool_limits(1, user_api="blas"):
        for channel in projections:
            values = channel[chosen]
            size = float((values**2).sum())
            if size > 0:
                kernel += values @ values.T * (n_images / size)
    n_varying = np.trace(kernel) / n_images
    return kernel / n_varying if n_varying > 0 else kernel


def _held_out(kernel: Float64Array, response: FloatArray, inner: list[Int64Array], held_out: Int64Array) -> float:
    """Return the correlation of predictions and class scores in one fold; 0 if the predictions are equal.

    Parameters
    ----------
    kernel : ndarray of shape (n_images, n_images)
        Inner products of the predictors.
    response : ndarray of shape (n_images,)
        Class scores.
    inner : list of ndarray of int64
        The images to fit to, in folds for the choice of the penalty.
    held_out : ndarray of int64
        The images to predict.
    """
    errors = np.zeros(len(PENALTIES))
    for number, test in enumerate(inner):
        train = np.concatenate([each for other, each in enumerate(inner) if other != number])
        errors += ((_predictions(kernel, response, train, test, PENALTIES) - response[test]) ** 2).sum(axis=1)
    best = PENALTIES[[int(errors.argmin())]]
    (predicted,) = _predictions(kernel, response, np.concatenate(inner), held_out, best)
    return correlation(predicted, response[held_out])


def _predictions(
    kernel: Float64Array, response: FloatArray, train: Int64Array, test: Int64Array, penalties: Float64Array
) -> Float64Array:
    """Return the predictions of ridge regressions with an intercept, (n_penalties, n_test)."""
    mean = kernel[:, train].mean(axis=1)
    centred = kernel - mean[:, None] - mean[None, :] + kernel[np.ix_(train, train)].mean()
    values, vectors = linalg.eigh(centred[np.ix_(train, train)])
    offset = float(response[train].mean())
    along = vectors.T @ (response[train] - offset)
    damped = along / (np.maximum(values, 0) + len(train) * penalties[:, None])
    found: Float64Array = offset + damped @ (centred[np.ix_(test, train)] @ vectors).T
    return found


def _interval(value: float, n_images: int) -> Association:
    """Return a correlation with its confidence interval, for so many independent images.

    The variance of a fold's correlation is that of Fisher's transformation. That of their mean is larger than for
    independent folds, because they are predicted from overlapping images (Nadeau and Bengio, 2003, "Inference for the
    generalization error").
    """
    limit = 1 - 1e-12
    variance = (1 / N_FOLDS + 1 / (N_FOLDS - 1)) / max(n_images / N_FOLDS - 3, 1)
    centre, reach = np.arctanh(np.clip(value, -limit, limit)), norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance)
    return Association(value, float(np.tanh(centre - reach)), float(np.tanh(centre + reach)))
