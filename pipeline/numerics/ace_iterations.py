"""ACE's iterations, compiled: what `pipeline.numerics.ace` has done for each channel and response.

They are those of Friedman's ``mace.f``: start from a linear fit, accept a new phi only where R squared rises, stop when
it moved by at most `delrsq` over `nterm` outer rounds.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.numerics.compiled import compiled
from pipeline.numerics.sorting import stable_order
from pipeline.numerics.supersmoother import N_TABLE_ROWS, N_WORK_ROWS, prepare, smooth_sorted


@compiled
def solve_channels(
    predictors, first_channel, last_channel, thetas, orders, response_table, response_flags, sides, spans,
    bass, delrsq, maxit, nterm, maximal, first, r_squared, iterations, phi_out, theta_out,
):  # fmt: skip
    """Solve some channels against every row of `thetas`; see `pipeline.numerics.ace`."""
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
