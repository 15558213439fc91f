"""A layer's predictors and the response, checked, with their spline functions made a few channels at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import ThreadpoolController

from pipeline.arrays import Float64Array, FloatArray
from pipeline.errors import InputError
from pipeline.numerics.checks import checked_response
from pipeline.numerics.normal_scores import without_heavy_tails
from pipeline.numerics.predictors import Predictors
from pipeline.numerics.spline_basis import SplineBasis, spline_basis
from pipeline.numerics.spline_solver import Smoothness, curvature_penalty, whitener
from pipeline.progress import Progress

N_KNOTS = 7
N_FUNCTIONS = 4
CHUNK = 16  # channels worked on together; with fewer, threads wait for Python's global lock more often
VALUES = 2**19  # of the predictors of these channels, which are fewer if there are many images
BYTES_OF_VALUE = 500  # that are allocated for each of these values, about
WORKING_BYTES = 2**30  # that all threads allocate together


class SplineLayer:
    """Checked predictors and response, and the response's functions.

    Parameters
    ----------
    predictors : Predictors, or array_like of shape (n_channels, n_images, n_components)
        Finite.
    response : array_like of shape (n_images,)
        Finite, not constant.
    n_functions : int
        Functions of each variable.
    n_threads : int or None
        None: one for each core.

    Raises
    ------
    InputError
        If a value is not finite, the response is constant, shapes do not fit, there are fewer than 5 images, or a
        number is below 1.
    """

    def __init__(
        self, predictors: ArrayLike | Predictors, response: ArrayLike, n_functions: int, n_threads: int | None
    ) -> None:
        for name, count in (("n_functions", n_functions), ("n_threads", 1 if n_threads is None else n_threads)):
            if count < 1:
                raise InputError(f"{name} must be at least 1; got {count}.")
        self.predictors = Predictors.of(predictors)
        self.n_channels, self.n_images, self.n_components = self.predictors.shape
        self.n_functions = n_functions
        self.n_threads = n_threads or os.cpu_count() or 1
        self.response = self.basis_of(checked_response(response, self.n_images))

    def basis_of(self, values: FloatArray) -> SplineBasis:
        """Return the functions of variables, (..., n_images); heavy tails are drawn in first."""
        return spline_basis(without_heavy_tails(values), self.n_functions, max(N_KNOTS, self.n_functions + 1))

    def each_chunk(
        self, work: Callable[[int, SplineBasis], None], progress: Progress | None = None, chunk: int = CHUNK
    ) -> None:
        """Call ``work(first, basis)`` for every `chunk` channels or fewer, in several threads.

        `first` is the number of the first of them, and `basis` the functions of all their components. With many images
        there are fewer channels, and fewer threads if these would need more than `WORKING_BYTES`.
        """
        chunk, n_threads = division(self.n_images * self.n_components, chunk, self.n_threads)

        def run(first: int) -> int:
            last: int = min(first + chunk, self.n_channels)
            # Contiguous, because there are several passes over the images of each component.
            work(first, self.basis_of(np.ascontiguousarray(np.swapaxes(self.predictors.read(first, last), 1, 2))))
            return last

        with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(n_threads) as threads:
            for n_done in threads.map(run, range(0, self.n_channels, chunk)):
                if progress is not None:
                    progress(n_done, self.n_channels)

    def response_side(
        self, smoothness: Smoothness, covariances: FloatArray | None = None
    ) -> tuple[Float64Array, Float64Array]:
        """Return the penalty on the response's functions, and the whitener of their covariances (of all images)."""
        values = self.response.values
        penalty = curvature_penalty(self.response.roughness, smoothness.response)
        return penalty, whitener(values @ values.T / self.n_images if covariances is None else covariances, penalty)


def predictor_penalty(basis: SplineBasis, smoothness: Smoothness) -> Float64Array:
    """Return the penalty on each channel's functions, (n_channels, q), in the order of `all_functions`."""
    penalty = curvature_penalty(basis.roughness, smoothness.predictors)
    penalty += smoothness.shrinkage * np.arange(penalty.shape[1])[:, None]
    return penalty.reshape(len(penalty), -1)


def division(n_values: int, chunk: int, n_threads: int) -> tuple[int, int]:
    """Return how many channels are worked on together and in how many threads, given the values of a channel."""
    chunk = max(1, min(chunk, VALUES // n_values))
    return chunk, max(1, min(n_threads, WORKING_BYTES // (chunk * n_values * BYTES_OF_VALUE)))


def channels_at_once(n_values: int) -> int:
    """Return how many channels of a chunk are computed together, given how many further values each channel needs."""
    return max(1, VALUES // n_values)


def all_functions(basis: SplineBasis) -> Float64Array:
    """Return each channel's functions, those of one component after those of another, (n_channels, q, n_images)."""
    return basis.values.reshape(len(basis.values), -1, basis.values.shape[-1])


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
