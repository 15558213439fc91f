"""Alternating Conditional Expectations (ACE) of one response on many sets of predictors, by a compiled solver.

ACE finds transforms phi_1 ... phi_p of the predictors and theta of the response such that phi_1 + ... + phi_p explains
as much of the variance of theta as possible. The correlation that they reach is the maximal correlation. Each transform
is the conditional expectation of what the other transforms leave unexplained, estimated by the supersmoother.

A set of predictors is one channel of a layer. Channels share only the response, so the result of a channel has the same
bits whether it is computed alone or together with others, and on any number of threads.

References
----------
Breiman and Friedman (1985), "Estimating optimal transformations for multiple regression and correlation", JASA 80(391).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Float64Array, FloatArray, Int64Array
from pipeline.errors import InputError
from pipeline.numerics.ace_iterations import (
    Parameters,
    Responses,
    empty_channel,
    prepare_channel,
    scratch,
    solve_channels,
    solve_responses,
)
from pipeline.numerics.checks import checked_permutations, checked_response
from pipeline.numerics.parameters import DEFAULT_PARAMETERS, AceParameters
from pipeline.numerics.predictors import Predictors, Transforms
from pipeline.numerics.supersmoother import N_TABLE_ROWS, power_of_two_scaled, prepare, window_sizes
from pipeline.progress import Progress

CHUNK_SOLVES = 64  # number of solves between two reports of progress, at most
CHUNK_VALUES = 2**22  # of the predictors that a thread holds in memory, unless a channel has more


@dataclass(frozen=True)
class SupersmootherResult:
    """Result of ACE with the supersmoother for every channel.

    Attributes
    ----------
    maximal : ndarray of shape (n_channels,)
        corr(phi_1 + ... + phi_p, theta), in [0, 1] except for rounding; 0 where no predictor varies.
    first : ndarray of shape (n_channels,)
        abs(corr(phi_1, theta)), in [0, 1].
    r_squared : ndarray of shape (n_channels,)
        1 - mean((theta - phi_1 - ... - phi_p)^2) after the last iteration.
    iterations : ndarray of shape (n_channels,)
        Number of outer iterations, int64.
    phi : ndarray of shape (n_channels, n_images, n_components)
        Transforms of the predictors at the images, with mean 0.
    theta : ndarray of shape (n_channels, n_images)
        Transform of the response at the images, with mean 0 and standard deviation 1.
    """

    maximal: Float64Array
    first: Float64Array
    r_squared: Float64Array
    iterations: Int64Array
    phi: FloatArray
    theta: FloatArray


def supersmoother_transforms(
    predictors: ArrayLike | Predictors,
    response: ArrayLike,
    *,
    parameters: AceParameters = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
    progress: Progress | None = None,
    transforms: Transforms | None = None,
) -> SupersmootherResult:
    """Return the transforms of each channel and the correlations that they reach.

    Parameters
    ----------
    predictors : Predictors, or array_like of shape (n_channels, n_images, n_components)
        Finite values. A predictor that does not vary gets phi = 0.
    response : array_like of shape (n_images,)
        Finite values that are not all equal; at least 5 images.
    parameters : AceParameters
        Smoothness of the transforms and convergence of the iterations.
    n_threads : int or None
        Number of threads; None for one on each core. The result does not depend on it.
    progress : callable or None
        Called with the number of channels that are done and the number of all channels.
    transforms : Transforms or None
        Arrays to which the transforms are written; None for new ones.

    Returns
    -------
    SupersmootherResult
        Correlations, R squared, iterations and transforms.

    Raises
    ------
    InputError
        If a value is not finite, the response is constant, the shapes do not match, or there are fewer than 5 images.

    Notes
    -----
    The result does not depend on the scale of the response, except for rounding. Scaling a predictor may change the
    number of conjugate-gradient steps of the linear fit that ``mace.f`` starts from, and thereby the result slightly.
    """
    solver = _Solver(predictors, parameters, n_threads)
    transforms = transforms or Transforms.in_memory(*solver.predictors.shape)
    found = solver.solve(checked_response(response, solver.n_images)[None], transforms, progress=progress)
    return SupersmootherResult(
        found.maximal[:, 0], found.first[:, 0], found.r_squared[:, 0], found.iterations[:, 0],
        transforms.phi, transforms.theta,
    )  # fmt: skip


def supersmoother_correlations(
    predictors: ArrayLike | Predictors,
    response: ArrayLike,
    *,
    parameters: AceParameters = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
) -> dict[str, Float64Array]:
    """Return the statistics ``maximal`` and ``first``, (n_channels,) each; see `supersmoother_transforms`."""
    solver = _Solver(predictors, parameters, n_threads)
    found = solver.solve(checked_response(response, solver.n_images)[None])
    return {"maximal": found.maximal[:, 0], "first": found.first[:, 0]}


def permuted_supersmoother_correlations(
    predictors: ArrayLike | Predictors,
    response: ArrayLike,
    permutations: ArrayLike,
    *,
    parameters: AceParameters = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Float64Array, Float64Array]:
    """Return both statistics of each channel for permuted responses, that is, without any association.

    The part of the smoother that depends on the predictors only is computed once for all permutations.

    Parameters
    ----------
    predictors, response, parameters, n_threads, progress
        As in `supersmoother_transforms`.
    permutations : array_like of shape (n_permutations, n_images)
        Indices of images: with permutation b, the response of image i is ``response[permutations[b, i]]``.

    Returns
    -------
    maximal, first : ndarray of shape (n_channels, n_permutations)
        The statistics as in `SupersmootherResult`.

    Raises
    ------
    InputError
        As in `supersmoother_transforms`, or if a row of `permutations` is not a permutation.
    """
    solver = _Solver(predictors, parameters, n_threads)
    response = checked_response(response, solver.n_images)
    indices = checked_permutations(permutations, solver.n_images)
    found = solver.solve(response[indices], progress=progress)
    return found.maximal, found.first


@dataclass(frozen=True)
class _Found:
    """Results for each channel and response."""

    maximal: Float64Array
    first: Float64Array
    r_squared: Float64Array
    iterations: Int64Array


class _Solver:
    """Solves checked predictors for responses that are permutations of one another."""

    def __init__(self, predictors: ArrayLike | Predictors, parameters: AceParameters, n_threads: int | None) -> None:
        self.predictors = Predictors.of(predictors)
        self.n_channels, self.n_images, self.n_components = self.predictors.shape
        if n_threads is not None and n_threads < 1:
            raise InputError(f"n_threads must be at least 1; got {n_threads}.")
        self.parameters = Parameters(
            sides=window_sizes(self.n_images, parameters.spans),
            spans=np.array(parameters.spans, dtype=np.float64),
            bass=float(parameters.bass),
            delrsq=float(parameters.delrsq),
            maxit=int(parameters.maxit),
            nterm=int(parameters.nterm),
        )
        self.n_threads = n_threads or os.cpu_count() or 1

    def solve(
        self, responses: Float64Array, transforms: Transforms | None = None, *, progress: Progress | None = None
    ) -> _Found:
        """Return the results for `responses` of shape (n_responses, n_images), whose rows hold the same values.

        The transforms for the first response are written to `transforms`.
        """
        thetas = power_of_two_scaled(responses)[0]
        orders = np.argsort(thetas, axis=1, kind="stable")
        rising = thetas[0, orders[0]]
        thetas = thetas - rising.mean()
        thetas /= np.sqrt(np.mean((rising - rising.mean()) ** 2))
        response_table = np.empty((N_TABLE_ROWS, self.n_images))
        response_flags = prepare(rising, self.parameters.sides, response_table)

        shape = (self.n_channels, len(responses))
        found = _Found(
            maximal=np.zeros(shape),
            first=np.zeros(shape),
            r_squared=np.zeros(shape),
            iterations=np.zeros(shape, dtype=np.int64),
        )

        given = Responses(thetas, orders, response_table, response_flags)

        def work(first: int) -> int:
            last = min(first + chunk, self.n_channels)
            channel = empty_channel(self.n_images, self.n_components)
            rows = scratch(self.n_images, self.n_components, side_by_side=len(responses) > 1)
            # Writable as well: numba would compile the solver a second time for read-only arrays.
            predictors = np.require(self.predictors.read(first, last), requirements=["C", "W"])
            if len(responses) == 1:
                n_kept = 0 if transforms is None else len(predictors)
                phi = np.empty((n_kept, self.n_images, self.n_components))
                theta = np.empty((n_kept, self.n_images))
                solve_channels(
                    predictors, channel, given, self.parameters, rows,
                    found.maximal[first:last], found.first[first:last], found.r_squared[first:last],
                    found.iterations[first:last], phi, theta,
                )  # fmt: skip
                if transforms is not None:
                    transforms.put(first, phi, theta)
                return int(last)
            for c in range(first, last):
                tolerance = prepare_channel(
                    predictors[c - first], self.parameters.sides, self.parameters.delrsq, channel
                )
                solve_responses(
                    channel, tolerance, given, self.parameters, rows,
                    found.maximal[c], found.first[c], found.r_squared[c], found.iterations[c],
                )  # fmt: skip
            return int(last)

        fitting = CHUNK_VALUES // (self.n_images * self.n_components)
        chunk = max(1, min(CHUNK_SOLVES // len(responses), self.n_channels // (4 * self.n_threads), fitting))
        with ThreadPoolExecutor(self.n_threads) as threads:
            for n_done in threads.map(work, range(0, self.n_channels, chunk)):
                if progress is not None:
                    progress(n_done, self.n_channels)
        return found
