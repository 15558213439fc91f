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
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from pipeline.arrays import Float64Array, FloatArray, Int64Array
from pipeline.numerics.ace import correlation
from pipeline.numerics.evidence import CONFIDENCE
from pipeline.numerics.groups import Groups

N_FOLDS = 5
N_REPEATS = 2
MOST_IMAGES = 4096  # memory grows with the square of their number, time with the third power
VALUES = 2**19  # of the predictors that inner products are computed of at a time
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
    n_images, n_components = projections[0, chosen].shape
    kernel = np.zeros((n_images, n_images))
    together = max(1, VALUES // (n_images * n_components))  # channels, so that a product has many columns
    with threadpool_limits(1, user_api="blas"):
        for first in range(0, len(projections), together):
            values = np.asarray(projections[first : first + together])[:, chosen]
            size = np.square(values).sum(axis=(1, 2))
            values = values * np.sqrt(np.divide(n_images, size, out=np.zeros_like(size), where=size > 0))[:, None, None]
            columns = values.swapaxes(0, 1).reshape(n_images, -1)
            kernel += columns @ columns.T
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
    train = np.concatenate(inner)
    n_train, offset = len(train), float(response[train].mean())
    columns = kernel[:, train]
    mean = columns.mean(axis=1)
    centred = columns - mean[:, None] - mean[train] + columns[train].mean()
    values, vectors = np.linalg.eigh(centred[train])  # SciPy's would let the threads wait for each other
    values, along = np.maximum(values, 0), vectors.T @ (response[train] - offset)
    errors = np.zeros(len(PENALTIES))
    for test in np.split(np.arange(n_train), np.cumsum([len(each) for each in inner])[:-1]):
        errors += _errors(values, vectors, along, test)
    penalty = n_train * PENALTIES[int(errors.argmin())]
    predicted = offset + centred[held_out] @ (vectors @ (along / (values + penalty)))
    return correlation(predicted, response[held_out])


def _errors(values: Float64Array, vectors: Float64Array, along: Float64Array, test: Int64Array) -> Float64Array:
    """Return the sums of squared errors for some images of regressions on the others, (n_penalties,).

    No regression is fitted to the others. If R is the matrix that gives the residuals of a ridge regression with an
    intercept on all images, the errors for some images, had they been left out, are those images' block of R, inverted,
    times their residuals (Hastie, Tibshirani and Friedman, 2009, "The Elements of Statistical Learning", section 7.10,
    for single images).

    Parameters
    ----------
    values, vectors : ndarray of shape (n_images,), (n_images, n_images)
        Eigenvalues and eigenvectors of the centred inner products of all images.
    along : ndarray of shape (n_images,)
        Coordinates of the centred class scores in these eigenvectors.
    test : ndarray of int64
        The images that are left out.
    """
    n_images, rows = len(values), vectors[test]
    penalties = (n_images - len(test)) * PENALTIES[:, None]
    left = penalties / (values + penalties)
    residuals = (left * along) @ rows.T
    block = (left[:, None] * rows) @ rows.T - 1 / n_images
    errors: Float64Array = np.square(np.linalg.solve(block, residuals[..., None])).sum(axis=(1, 2))
    return errors


def _interval(value: float, n_images: int) -> Association:
    """Return a correlation with its confidence interval, for so many independent images.

    The variance of a fold's correlation is that of Fisher's transformation. That of their mean is larger than for
    independent folds, because they are predicted from overlapping images (Nadeau and Bengio, 2003, "Inference for the
    generalization error").
    """
    limit = 1 - 1e-12
    variance = (1 / N_FOLDS + 1 / (N_FOLDS - 1)) / max(n_images / N_FOLDS - 3, 1)
    centre, reach = np.arctanh(np.clip(value, -limit, limit)), ndtri((1 + CONFIDENCE) / 2) * np.sqrt(variance)
    return Association(value, float(np.tanh(centre - reach)), float(np.tanh(centre + reach)))
