"""Alternating Conditional Expectations (ACE) for many predictor sets against one response, compiled.

ACE looks for transforms phi_1 ... phi_p of the predictors and theta of the response for which the sum of the phi
explains theta best; the correlation they reach is the maximal correlation. Each transform is the conditional
expectation of what the others leave, estimated by the supersmoother.

The iterations are those of Friedman's ``mace.f``: start from a linear fit, accept a new phi only where R squared
rises, stop when it moved by at most `delrsq` over `nterm` outer rounds. One predictor set is one channel of a layer;
channels share nothing but the response, so that a channel's result has the same bits alone, among others, and on any
number of threads.

References
----------
Breiman and Friedman (1985), "Estimating optimal transformations for multiple regression and correlation", JASA 80(391).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import InputError
from pipeline.numerics.compiled import compiled
from pipeline.numerics.sorting import stable_order
from pipeline.numerics.supersmoother import (
    MIN_POINTS,
    N_TABLE_ROWS,
    N_WORK_ROWS,
    SPANS,
    power_of_two_scaled,
    prepare,
    smooth_sorted,
    window_sizes,
)

FloatArray = NDArray[np.floating[Any]]
Progress = Callable[[int, int], None]
CHUNK_SOLVES = 64  # solves between two reports of progress


@dataclass(frozen=True)
class AceResult:
    """What ACE found for every channel.

    Attributes
    ----------
    maximal : ndarray of shape (n_channels,)
        corr(phi_1 + ... + phi_p, theta), in [0, 1] but for rounding; 0 where no predictor varies.
    first : ndarray of shape (n_channels,)
        abs(corr(phi_1, theta)), in [0, 1].
    r_squared : ndarray of shape (n_channels,)
        1 - mean((theta - sum of phi)^2) when the iterations stopped.
    iterations : ndarray of shape (n_channels,)
        Outer iterations, int64.
    phi : ndarray of shape (n_channels, n_images, n_components)
        The predictors' transforms at the images, mean 0.
    theta : ndarray of shape (n_channels, n_images)
        The response's transform, mean 0 and standard deviation 1.
    """

    maximal: NDArray[np.float64]
    first: NDArray[np.float64]
    r_squared: NDArray[np.float64]
    iterations: NDArray[np.int64]
    phi: NDArray[np.float64]
    theta: NDArray[np.float64]


def maximal_correlation(
    predictors: ArrayLike,
    response: ArrayLike,
    *,
    statistic: Literal["maximal", "first"] = "maximal",
    bass: float = 0.0,
    delrsq: float = 0.01,
    maxit: int = 20,
    nterm: int = 3,
    spans: Sequence[float] = SPANS,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Return the maximal correlation of each channel's predictors with the response, (n_channels,), in [0, 1].

    ``maximal = corr(phi_1 + ... + phi_p, theta)``; ``first = abs(corr(phi_1, theta))``. The parameters are those of
    `optimal_transforms`.
    """
    if statistic not in ("maximal", "first"):
        raise InputError(f"statistic must be 'maximal' or 'first'; got {statistic!r}.")
    return both_correlations(
        predictors, response, bass=bass, delrsq=delrsq, maxit=maxit, nterm=nterm, spans=spans, n_threads=n_threads
    )[statistic]


def optimal_transforms(
    predictors: ArrayLike,
    response: ArrayLike,
    *,
    bass: float = 0.0,
    delrsq: float = 0.01,
    maxit: int = 20,
    nterm: int = 3,
    spans: Sequence[float] = SPANS,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> AceResult:
    """Return ACE's transforms, correlations, R squared and iterations for each channel.

    Parameters
    ----------
    predictors : array_like of shape (n_channels, n_images, n_components)
        Finite. A predictor that never varies gets phi = 0.
    response : array_like of shape (n_images,)
        Finite, not constant; at least 5 images.
    bass : float
        In [0, 10]: the larger, the smoother the transforms. 0 is Friedman's ``mace.f`` and the `ace` package, 5 what
        R's acepack always uses.
    delrsq, maxit, nterm : float, int, int
        Stop when R squared moved by at most `delrsq` over `nterm` outer rounds, or after `maxit` of them. `maxit` also
        bounds the passes over the predictors within a round.
    spans : sequence of 3 floats
        The supersmoother's: shares of the images in its windows.
    n_threads : int or None
        None: one for each core. The result does not depend on it.
    progress : callable or None
        Called with the channels done and all channels.

    Raises
    ------
    InputError
        If a value is not finite, the response is constant, shapes do not fit, or there are fewer than 5 images.

    Notes
    -----
    Scaling the response changes nothing; scaling a predictor may change the number of conjugate-gradient passes of the
    linear fit that ``mace.f`` starts from, and so what the iterations end in, by little.
    """
    solver = _Solver(predictors, bass, delrsq, maxit, nterm, spans, n_threads)
    found = solver.solve(checked_response(response, solver.n_images)[None], transforms=True, progress=progress)
    return AceResult(
        found.maximal[:, 0], found.first[:, 0], found.r_squared[:, 0], found.iterations[:, 0], found.phi, found.theta
    )


def both_correlations(predictors: ArrayLike, response: ArrayLike, **solver: Any) -> dict[str, NDArray[np.float64]]:
    """Return ``{"maximal": ..., "first": ...}``, (n_channels,) each; `solver` as in `maximal_correlation`."""
    prepared = _Solver(predictors, **solver)
    found = prepared.solve(checked_response(response, prepared.n_images)[None], transforms=False)
    return {"maximal": found.maximal[:, 0], "first": found.first[:, 0]}


def permuted_correlations(
    predictors: ArrayLike,
    response: ArrayLike,
    permutations: ArrayLike,
    *,
    bass: float = 0.0,
    delrsq: float = 0.01,
    maxit: int = 20,
    nterm: int = 3,
    spans: Sequence[float] = SPANS,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both statistics of each channel for permuted responses: what they are when nothing is there.

    What the smoother needs of the predictors is worked out once for all permutations.

    Parameters
    ----------
    predictors, response, bass, delrsq, maxit, nterm, spans, n_threads, progress
        As in `optimal_transforms`.
    permutations : array_like of shape (n_permutations, n_images)
        Indices: the response of image i becomes ``response[permutations[b, i]]``.

    Returns
    -------
    maximal, first : ndarray of shape (n_channels, n_permutations)
        As in `AceResult`.
    """
    solver = _Solver(predictors, bass, delrsq, maxit, nterm, spans, n_threads)
    response = checked_response(response, solver.n_images)
    indices = np.asarray(permutations, dtype=np.int64)
    if indices.ndim != 2 or not (np.sort(indices, axis=1) == np.arange(solver.n_images)).all():
        raise InputError(f"permutations must be rows of the indices 0 to {solver.n_images - 1}, each once a row.")
    found = solver.solve(response[indices], transforms=False, progress=progress)
    return found.maximal, found.first


def checked_predictors(predictors: ArrayLike) -> NDArray[np.float64]:
    """Return (n_channels, n_images, n_components) as float64, or raise what `optimal_transforms` says."""
    # Writable too: for read-only arrays the solver would be compiled once more.
    values = np.require(predictors, dtype=np.float64, requirements=["C", "W"])
    if values.ndim != 3 or values.shape[2] < 1:
        raise InputError(f"predictors must have the shape (n_channels, n_images, n_components); got {values.shape}.")
    if values.shape[1] < MIN_POINTS:
        raise InputError(f"n_images must be at least {MIN_POINTS}; got {values.shape[1]}.")
    if not np.isfinite(values).all():
        raise InputError("predictors must be finite; got NaN or infinity. Check the activations.")
    return values


def checked_response(response: ArrayLike, n_images: int) -> NDArray[np.float64]:
    """Return the response as float64, (n_images,), or raise what `optimal_transforms` says."""
    values = np.asarray(response, dtype=np.float64)
    if values.shape != (n_images,):
        raise InputError(f"response must hold one value for each of the {n_images} images; got shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError("response must be finite; got NaN or infinity. Check the class scores.")
    if (values == values[0]).all():
        raise InputError(f"response must differ between images; got {values[0]:g} for every one.")
    return values


@dataclass(frozen=True)
class _Found:
    """Results for each channel and response; `phi` and `theta` are of the first response, where asked for."""

    maximal: NDArray[np.float64]
    first: NDArray[np.float64]
    r_squared: NDArray[np.float64]
    iterations: NDArray[np.int64]
    phi: NDArray[np.float64]
    theta: NDArray[np.float64]


class _Solver:
    """Checked predictors and parameters, ready to be solved against responses that share one set of values."""

    def __init__(
        self,
        predictors: ArrayLike,
        bass: float = 0.0,
        delrsq: float = 0.01,
        maxit: int = 20,
        nterm: int = 3,
        spans: Sequence[float] = SPANS,
        n_threads: int | None = None,
    ) -> None:
        self.predictors = checked_predictors(predictors)
        self.n_channels, self.n_images, self.n_components = self.predictors.shape
        for name, value, low, high in (("bass", bass, 0, 10), ("delrsq", delrsq, 0, 1)):
            if not low <= value <= high:
                raise InputError(f"{name} must be in [{low}, {high}]; got {value}.")
        for name, count in (("maxit", maxit), ("nterm", nterm), ("n_threads", 1 if n_threads is None else n_threads)):
            if count < 1:
                raise InputError(f"{name} must be at least 1; got {count}.")
        self.parameters = (float(bass), float(delrsq), int(maxit), int(nterm))
        self.sides = window_sizes(self.n_images, spans)
        self.spans = np.array(spans, dtype=np.float64)
        self.n_threads = n_threads or os.cpu_count() or 1

    def solve(self, responses: NDArray[np.float64], *, transforms: bool, progress: Progress | None = None) -> _Found:
        """Return the results for `responses`, (n_responses, n_images), whose rows hold the same values."""
        thetas = power_of_two_scaled(responses)[0]
        orders = np.argsort(thetas, axis=1, kind="stable")
        rising = thetas[0, orders[0]]
        thetas = thetas - rising.mean()
        thetas /= np.sqrt(np.mean((rising - rising.mean()) ** 2))
        response_table = np.empty((N_TABLE_ROWS, self.n_images))
        response_flags = prepare(rising, self.sides, response_table)

        shape = (self.n_channels, len(responses))
        n_kept = self.n_channels if transforms else 0
        found = _Found(
            maximal=np.zeros(shape),
            first=np.zeros(shape),
            r_squared=np.zeros(shape),
            iterations=np.zeros(shape, dtype=np.int64),
            phi=np.zeros((n_kept, self.n_images, self.n_components)),
            theta=np.zeros((n_kept, self.n_images)),
        )

        def work(first: int) -> int:
            last = min(first + chunk, self.n_channels)
            _solve_channels(
                self.predictors, first, last, thetas, orders, response_table, response_flags, self.sides, self.spans,
                *self.parameters, found.maximal, found.first, found.r_squared, found.iterations, found.phi, found.theta,
            )  # fmt: skip
            return int(last)

        chunk = max(1, min(CHUNK_SOLVES // len(responses), self.n_channels // (4 * self.n_threads)))
        with ThreadPoolExecutor(self.n_threads) as threads:
            for n_done in threads.map(work, range(0, self.n_channels, chunk)):
                if progress is not None:
                    progress(n_done, self.n_channels)
        return found


@compiled
def _solve_channels(
    predictors, first_channel, last_channel, thetas, orders, response_table, response_flags, sides, spans,
    bass, delrsq, maxit, nterm, maximal, first, r_squared, iterations, phi_out, theta_out,
):  # fmt: skip
    """Solve some channels against every row of `thetas`; see `_Solver.solve`."""
    _, n, p = predictors.shape
    columns = np.empty((p, n))  # centred, in the order of the images
    ranks = np.empty((p, n), dtype=np.int64)
    other_ranks = np.empty(n, dtype=np.int64)
    keys, other_keys = np.empty(n, dtype=np.uint32), np.empty(n, dtype=np.uint32)
    tables = np.empty((p, N_TABLE_ROWS, n))
    flags = np.empty(p, dtype=np.int64)
    is_varying = np.empty(p, dtype=np.bool_)
    products = np.empty((p, p))
    work = np.empty((N_WORK_ROWS, n + 1))
    phi = np.empty((p, n))  # each in the order of its predictor
    rest, target, smooth, theta = np.empty(n), np.empty(n), np.empty(n), np.empty(n)  # rest: theta minus all phi
    for channel in range(first_channel, last_channel):
        # Powers of two keep squares from overflowing and vanishing and change no digit: one for the linear fit, where
        # the predictors' scales count against one another, and one for each predictor in the smoother.
        one, other, exponent = _towards_one(predictors[channel])
        for k in range(p):
            for i in range(n):
                smooth[i] = predictors[channel, i, k]
                columns[k, i] = (smooth[i] * one) * other
            stable_order(smooth, ranks[k], keys, other_keys, other_ranks)
            own, own_other, _ = _towards_one(smooth)
            for i in range(n):
                target[i] = (smooth[ranks[k, i]] * own) * own_other
            is_varying[k] = target[n - 1] > target[0]
            centre = _mean(columns[k]) if is_varying[k] else columns[k, 0]
            for i in range(n):
                columns[k, i] -= centre
            if is_varying[k]:
                flags[k] = prepare(target, sides, tables[k])
        for j in range(p):
            for k in range(j + 1):
                products[j, k] = products[k, j] = _dot(columns[j], columns[k]) / n

        for b in range(thetas.shape[0]):
            for i in range(n):
                theta[i] = rest[i] = thetas[b, i]
            coefficients = _linear_fit(columns, products, theta, math.ldexp(delrsq, exponent))
            for k in range(p):
                for i in range(n):
                    rest[i] -= coefficients[k] * columns[k, i]
                    phi[k, i] = coefficients[k] * columns[k, ranks[k, i]]
            r_squared[channel, b], iterations[channel, b] = _iterate(
                tables, flags, is_varying, ranks, orders[b], response_table, response_flags, sides, spans,
                bass, delrsq, maxit, nterm, phi, theta, rest, target, smooth, work,
            )  # fmt: skip
            for i in range(n):
                smooth[i] = theta[i] - rest[i]
            maximal[channel, b] = _correlation(smooth, theta)
            for i in range(n):
                target[ranks[0, i]] = phi[0, i]
            first[channel, b] = abs(_correlation(target, theta))
        if phi_out.shape[0] > 0:
            for i in range(n):
                theta_out[channel, i] = theta[i]
            for k in range(p):
                for i in range(n):
                    phi_out[channel, ranks[k, i], k] = phi[k, i]


@compiled
def _towards_one(values):
    """Return two factors, powers of two whose product brings the largest magnitude into [0.5, 1), and its exponent.

    Two, because their product may be beyond the largest number.
    """
    largest = 0.0
    for value in values.flat:
        largest = max(largest, abs(value))
    exponent = math.frexp(largest)[1]
    half = exponent // 2
    return math.ldexp(1.0, -half), math.ldexp(1.0, half - exponent), exponent


@compiled
def _iterate(
    tables, flags, is_varying, ranks, order, response_table, response_flags, sides, spans, bass, delrsq, maxit, nterm,
    phi, theta, rest, target, smooth, work,
):  # fmt: skip
    """Alternate until R squared stands still; update `phi`, `theta`, `rest`; return R squared and the rounds."""
    p, n = phi.shape
    r_squared = 0.0
    history = np.full(nterm, 100.0)
    for outer in range(maxit):
        for _ in range(maxit):
            before = r_squared
            for k in range(p):
                rank = ranks[k]
                for i in range(n):
                    target[i] = rest[rank[i]] + phi[k, i]
                if is_varying[k]:
                    smooth_sorted(tables[k], flags[k], sides, spans, bass, target, smooth, work)
                    centre = _mean(smooth)
                    for i in range(n):
                        smooth[i] -= centre
                else:
                    for i in range(n):
                        smooth[i] = 0.0
                reached = 1.0 - _mean_square_difference(target, smooth)
                if reached > r_squared:
                    r_squared = reached
                    for i in range(n):
                        phi[k, i] = smooth[i]
                        rest[rank[i]] = target[i] - smooth[i]
            if p == 1 or r_squared - before <= delrsq:
                break
        for i in range(n):
            target[i] = theta[order[i]] - rest[order[i]]
        smooth_sorted(response_table, response_flags, sides, spans, bass, target, smooth, work)
        centre = _mean(smooth)
        for i in range(n):
            smooth[i] -= centre
        deviation = np.sqrt(_dot(smooth, smooth) / n)
        if deviation == 0.0:  # no phi explains anything: theta stays as it is
            return r_squared, outer + 1
        for i in range(n):
            theta[order[i]] = smooth[i] / deviation
            rest[order[i]] = theta[order[i]] - target[i]
        r_squared = 1.0 - _dot(rest, rest) / n
        history[outer % nterm] = r_squared
        high = low = history[0]
        for past in history:
            high, low = max(high, past), min(low, past)
        if high - low <= delrsq:
            return r_squared, outer + 1
    return r_squared, maxit


@compiled
def _linear_fit(columns, products, theta, tolerance):
    """Return the coefficients that ``mace.f`` starts from: a few rounds of conjugate gradients (its ``scale``)."""
    p, n = columns.shape
    goal = np.empty(p)
    for k in range(p):
        goal[k] = _dot(columns[k], theta) / n
    coefficients, direction = np.zeros(p), np.zeros(p)
    gradient, last_square = np.empty(p), 1.0
    for _ in range(p):
        before = coefficients.copy()
        for step in range(p):
            for k in range(p):
                gradient[k] = goal[k] - _dot(products[k], coefficients)
            square = _dot(gradient, gradient)
            if square <= 0.0:
                break
            share = 0.0 if step == 0 else square / last_square
            for k in range(p):
                direction[k] = gradient[k] + share * direction[k]
            last_square = square
            curvature = 0.0
            for k in range(p):
                curvature += direction[k] * _dot(products[k], direction)
            if curvature <= 0.0:
                break
            length = _dot(direction, gradient) / curvature
            for k in range(p):
                coefficients[k] += length * direction[k]
        largest = 0.0
        for k in range(p):
            largest = max(largest, abs(coefficients[k] - before[k]))
        if largest < tolerance:
            break
    return coefficients


@compiled
def _dot(a, b):
    """Return sum(a b), in eight interleaved sums: fast, and in one order on every machine."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    n = a.size
    whole = n - n % 8
    for i in range(0, whole, 8):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    for i in range(whole, n):
        total += a[i] * b[i]
    return total


@compiled
def _mean(a):
    s0 = s1 = s2 = s3 = 0.0
    n = a.size
    whole = n - n % 4
    for i in range(0, whole, 4):
        s0 += a[i]
        s1 += a[i + 1]
        s2 += a[i + 2]
        s3 += a[i + 3]
    total = (s0 + s1) + (s2 + s3)
    for i in range(whole, n):
        total += a[i]
    return total / n


@compiled
def _mean_square_difference(a, b):
    s0 = s1 = s2 = s3 = 0.0
    n = a.size
    whole = n - n % 4
    for i in range(0, whole, 4):
        s0 += (a[i] - b[i]) ** 2
        s1 += (a[i + 1] - b[i + 1]) ** 2
        s2 += (a[i + 2] - b[i + 2]) ** 2
        s3 += (a[i + 3] - b[i + 3]) ** 2
    total = (s0 + s1) + (s2 + s3)
    for i in range(whole, n):
        total += (a[i] - b[i]) ** 2
    return total / n


@compiled
def _correlation(a, b):
    """Return Pearson's correlation, 0 where one of the two is constant."""
    mean_a, mean_b = _mean(a), _mean(b)
    ab = aa = bb = 0.0
    for i in range(a.size):
        ab += (a[i] - mean_a) * (b[i] - mean_b)
        aa += (a[i] - mean_a) ** 2
        bb += (b[i] - mean_b) ** 2
    return ab / np.sqrt(aa * bb) if aa > 0.0 and bb > 0.0 else 0.0
