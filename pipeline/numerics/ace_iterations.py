"""The compiled iterations of ACE, which `pipeline.numerics.ace` calls for each channel and response.

They follow Friedman's ``mace.f``: they start from a linear fit, accept a new phi only if it increases R squared, and
stop when R squared has changed by at most `delrsq` over `nterm` outer iterations.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import BoolArray, Float64Array, Int64Array
from pipeline.numerics.compiled import compiled, inlined
from pipeline.numerics.lanes import N_LANES, aligned_zeros, any_of, borrowed, elements, numbers, where
from pipeline.numerics.sorting import stable_order
from pipeline.numerics.supersmoother import N_TABLE_ROWS, N_WORK_ROWS, prepare, smooth_sorted

# Rows of the scratch array: first phi of each predictor, in the order of its values. Then the rows below: theta and
# rest (theta minus the sum of all phi) in the order of the images, target and smooth in the order of the variable that
# is smoothed against, and R squared and another number for each lane. Then the rows of the smoother.
THETA, REST, TARGET, SMOOTH, REACHED, VALUE, WORK = range(7)


class Channel(NamedTuple):
    """What is computed once for all responses, for p predictors at n images."""

    columns: Float64Array  # (p, n): predictors, centred, in the order of the images
    products: Float64Array  # (p, p): covariances of the predictors
    ranks: Int64Array  # (p, n): indices of the images, sorted by each predictor
    tables: Float64Array  # (p, N_TABLE_ROWS, n): filled by the smoother's `prepare`, as are `flags`
    flags: Int64Array  # (p,)
    is_varying: BoolArray  # (p,): whether a predictor varies
    spare: Float64Array  # (3, n): scratch, like the next two
    spare_ranks: Int64Array  # (n,)
    keys: NDArray[np.uint32]  # (2, n)


class Responses(NamedTuple):
    """Permutations of one standardised response at n images."""

    thetas: Float64Array  # (n_responses, n)
    orders: Int64Array  # (n_responses, n): indices of the images, sorted by each response
    table: Float64Array  # (N_TABLE_ROWS, n): filled by the smoother's `prepare`, as are `flags`
    flags: int


class Parameters(NamedTuple):
    """The fields of `pipeline.numerics.parameters.AceParameters` for compiled code, and the sizes of the windows."""

    sides: Int64Array  # (3,): number of neighbours on each side of a point, for each span
    spans: Float64Array
    bass: float
    delrsq: float
    maxit: int
    nterm: int


def empty_channel(n_images: int, n_components: int) -> Channel:
    """Return a `Channel` of uninitialised arrays, which `prepare_channel` fills."""
    n, p = n_images, n_components
    return Channel(
        columns=np.empty((p, n)),
        products=np.empty((p, p)),
        ranks=np.empty((p, n), dtype=np.int64),
        tables=np.empty((p, N_TABLE_ROWS, n)),
        flags=np.empty(p, dtype=np.int64),
        is_varying=np.empty(p, dtype=np.bool_),
        spare=np.empty((3, n)),
        spare_ranks=np.empty(n, dtype=np.int64),
        keys=np.empty((2, n), dtype=np.uint32),
    )


def scratch(n_images: int, n_components: int, *, side_by_side: bool) -> Float64Array:
    """Return the scratch array of `solve_responses`: of lanes to solve responses side by side, otherwise of numbers."""
    shape = (n_components + WORK + N_WORK_ROWS, n_images + 1)
    return aligned_zeros((*shape, N_LANES) if side_by_side else shape)


@compiled
def solve_channels(
    predictors, channel, responses, parameters, scratch,
    maximal, first, r_squared, iterations, phi_out, theta_out,
):  # fmt: skip
    """Solve channels for all responses.

    The transforms are stored unless `phi_out` and `theta_out` are empty.
    """
    n_channels, n, p = predictors.shape
    rows = elements(scratch)
    for c in range(n_channels):
        tolerance = prepare_channel(predictors[c], parameters.sides, parameters.delrsq, channel)
        solve_responses(
            channel, tolerance, responses, parameters, scratch, maximal[c], first[c], r_squared[c], iterations[c]
        )
        if phi_out.shape[0] > 0:
            for i in range(n):
                theta_out[c, i] = numbers(rows[p + THETA])[i, 0]
            for k in range(p):
                for i in range(n):
                    phi_out[c, channel.ranks[k, i], k] = numbers(rows[k])[i, 0]


@compiled
def prepare_channel(predictors, sides, delrsq, channel):
    """Fill `channel` for predictors of shape (n, p) and return the tolerance of the linear fit."""
    n, p = predictors.shape
    columns, products, ranks, tables, flags, is_varying, spare, spare_ranks, keys = channel
    values, rising = spare[0], spare[1]
    # Scaling by powers of two changes no digit, and keeps squares from overflowing and from underflowing. There is one
    # factor for the linear fit, in which the relative scales of the predictors matter, and one for each predictor in
    # the smoother. Each factor is given as two whose product it is.
    one, other, exponent = _towards_one(predictors)
    for k in range(p):
        for i in range(n):
            values[i] = predictors[i, k]
            columns[k, i] = (values[i] * one) * other
        stable_order(values, ranks[k], keys[0], keys[1], spare_ranks)
        own, own_other, _ = _towards_one(values)
        for i in range(n):
            rising[i] = (values[ranks[k, i]] * own) * own_other
        is_varying[k] = rising[n - 1] > rising[0]
        centre = _mean(columns[k]) if is_varying[k] else columns[k, 0]
        for i in range(n):
            columns[k, i] -= centre
        if is_varying[k]:
            flags[k] = prepare(rising, sides, tables[k])
    for j in range(p):
        for k in range(j + 1):
            products[j, k] = products[k, j] = _dot(columns[j], columns[k]) / n
    return math.ldexp(delrsq, exponent)


@inlined
def solve_responses(channel, tolerance, responses, parameters, scratch, maximal, first, r_squared, iterations):
    """Solve one channel for every response; a lane whose response is finished takes the next one.

    Lanes for which no response is left go on with the last one, and their results are ignored.
    """
    delrsq, maxit, nterm = parameters.delrsq, parameters.maxit, parameters.nterm
    n_responses, p = len(responses.thetas), len(channel.columns)
    rows = elements(scratch)
    reached = numbers(rows[p + REACHED, :1])[0]  # R squared of each lane
    n_lanes = reached.size
    counts, levels, history = np.zeros((4, n_lanes), dtype=np.int64), np.zeros((2, n_lanes)), np.empty((n_lanes, nterm))
    current, n_inner, n_outer, is_due = counts[0], counts[1], counts[2], counts[3]
    before, deviations = levels[0], levels[1]
    current[:] = -1  # index of the response that each lane solves; -1 for none
    started = done = 0
    while done < n_responses:
        for lane in range(n_lanes):
            if current[lane] < 0 and started < n_responses:
                _start(channel, tolerance, responses.thetas[started], lane, rows)
                reached[lane] = before[lane] = 0.0
                n_inner[lane] = n_outer[lane] = 0
                history[lane] = 100.0
                current[lane] = started
                started += 1
        _improve_phi(channel, parameters, rows)
        n_due = 0
        for lane in range(n_lanes):
            n_inner[lane] += 1
            is_settled = p == 1 or reached[lane] - before[lane] <= delrsq or n_inner[lane] == maxit
            is_due[lane] = is_settled and current[lane] >= 0
            before[lane] = reached[lane]
            n_due += is_due[lane]
        if n_due == 0:
            continue
        _improve_theta(responses, parameters, current, is_due, deviations, p, rows)
        for lane in range(n_lanes):
            if not is_due[lane]:
                continue
            history[lane, n_outer[lane] % nterm] = before[lane] = reached[lane]
            n_inner[lane] = 0
            n_outer[lane] += 1
            high = low = history[lane, 0]
            for past in history[lane]:
                high, low = max(high, past), min(low, past)
            is_still = high - low <= delrsq
            # If the smooth is constant, no phi explains anything, and theta stays as it is.
            if is_still or n_outer[lane] == maxit or deviations[lane] == 0.0:
                b = current[lane]
                maximal[b], first[b] = _correlations(channel.ranks[0], channel.spare, lane, p, rows)
                r_squared[b], iterations[b] = reached[lane], n_outer[lane]
                current[lane] = -1
                done += 1


@inlined
def _start(channel, tolerance, start, lane, rows):
    """Set theta of a lane to the response `start`, and its phi to the linear fit."""
    columns, ranks = channel.columns, channel.ranks
    p, n = columns.shape
    coefficients = _linear_fit(columns, channel.products, start, tolerance)
    theta, rest = numbers(rows[p + THETA]), numbers(rows[p + REST])
    for i in range(n):
        theta[i, lane] = rest[i, lane] = start[i]
    for k in range(p):
        phi = numbers(rows[k])
        for i in range(n):
            rest[i, lane] -= coefficients[k] * columns[k, i]
            phi[i, lane] = coefficients[k] * columns[k, ranks[k, i]]


@inlined
def _improve_phi(channel, parameters, rows):
    """Smooth, for each predictor in turn, what the other phi leave of theta; accept it where R squared increases."""
    ranks, tables, flags = borrowed(channel.ranks), borrowed(channel.tables), borrowed(channel.flags)
    is_varying = borrowed(channel.is_varying)
    sides, spans, bass = parameters.sides, parameters.spans, parameters.bass
    p, n = ranks.shape
    target, smooth, work = rows[p + TARGET, :n], rows[p + SMOOTH, :n], rows[p + WORK :]
    rest = p + REST
    for k in range(p):
        rank = ranks[k]
        for i in range(n):
            target[i] = rows[rest, rank[i]] + rows[k, i]
        if is_varying[k]:
            smooth_sorted(tables[k], flags[k], sides, spans, bass, target, smooth, work)
            centre = _mean(smooth)
            for i in range(n):
                smooth[i] -= centre
        else:
            smooth[:] = 0.0
        found = 1.0 - _mean_square_difference(target, smooth)
        is_better = found > rows[p + REACHED, 0]
        if any_of(is_better):
            rows[p + REACHED, 0] = where(is_better, found, rows[p + REACHED, 0])
            for i in range(n):
                rows[k, i] = where(is_better, smooth[i], rows[k, i])
                rows[rest, rank[i]] = where(is_better, target[i] - smooth[i], rows[rest, rank[i]])


@inlined
def _improve_theta(responses, parameters, current, is_due, deviations, p, rows):
    """Smooth the sum of all phi against the response in the lanes where `is_due`, and standardise the result.

    Each lane takes the images in the order of its own response.
    """
    orders = responses.orders
    n = orders.shape[1]
    target, smooth, value = rows[p + TARGET, :n], rows[p + SMOOTH, :n], rows[p + VALUE]
    theta_of, rest_of, reached_of = numbers(rows[p + THETA]), numbers(rows[p + REST]), numbers(rows[p + REACHED])
    target_of, smooth_of, value_of = numbers(target), numbers(smooth), numbers(value)
    for lane in range(is_due.size):
        if is_due[lane]:
            order = orders[current[lane]]
            for i in range(n):
                target_of[i, lane] = theta_of[order[i], lane] - rest_of[order[i], lane]
    smooth_sorted(
        responses.table, responses.flags, parameters.sides, parameters.spans, parameters.bass,
        target, smooth, rows[p + WORK :],
    )  # fmt: skip
    centre = _mean(smooth)
    for i in range(n):
        smooth[i] -= centre
    value[0] = _dot(smooth, smooth) / n
    for lane in range(is_due.size):
        if is_due[lane]:
            order = orders[current[lane]]
            deviations[lane] = deviation = np.sqrt(value_of[0, lane])
            if deviation > 0.0:
                for i in range(n):
                    theta_of[order[i], lane] = smooth_of[i, lane] / deviation
                    rest_of[order[i], lane] = theta_of[order[i], lane] - target_of[i, lane]
    rest = rows[p + REST, :n]
    value[0] = 1.0 - _dot(rest, rest) / n
    for lane in range(is_due.size):
        if is_due[lane] and deviations[lane] > 0.0:
            reached_of[0, lane] = value_of[0, lane]


@inlined
def _correlations(rank, spare, lane, p, rows):
    """Return corr(phi_1 + ... + phi_p, theta) and abs(corr(phi_1, theta)) of a lane."""
    n = rank.size
    theta_of, rest_of, phi_of = numbers(rows[p + THETA]), numbers(rows[p + REST]), numbers(rows[0])
    total, one, theta = spare[0], spare[1], spare[2]
    for i in range(n):
        theta[i] = theta_of[i, lane]
        total[i] = theta_of[i, lane] - rest_of[i, lane]
        one[rank[i]] = phi_of[i, lane]
    return _correlation(total, theta), abs(_correlation(one, theta))


@compiled
def _towards_one(values):
    """Return two powers of two whose product scales the largest magnitude into [0.5, 1), and its exponent.

    There are two factors because their product may overflow.
    """
    largest = 0.0
    for value in values.flat:
        largest = max(largest, abs(value))
    exponent = math.frexp(largest)[1]
    half = exponent // 2
    return math.ldexp(1.0, -half), math.ldexp(1.0, half - exponent), exponent


@compiled
def _linear_fit(columns, products, theta, tolerance):
    """Return the coefficients that ``mace.f`` starts from, by conjugate gradients (its subroutine ``scale``)."""
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
    """Return sum(a b) in eight interleaved partial sums, which is fast and has the same order on every machine."""
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
        s0 += _square(a[i] - b[i])
        s1 += _square(a[i + 1] - b[i + 1])
        s2 += _square(a[i + 2] - b[i + 2])
        s3 += _square(a[i + 3] - b[i + 3])
    total = (s0 + s1) + (s2 + s3)
    for i in range(whole, n):
        total += _square(a[i] - b[i])
    return total / n


@inlined
def _square(a):
    return a * a


@compiled
def _correlation(a, b):
    """Return the Pearson correlation, 0 where one of the two is constant."""
    mean_a, mean_b = _mean(a), _mean(b)
    ab = aa = bb = 0.0
    for i in range(a.size):
        ab += (a[i] - mean_a) * (b[i] - mean_b)
        aa += (a[i] - mean_a) ** 2
        bb += (b[i] - mean_b) ** 2
    return ab / np.sqrt(aa * bb) if aa > 0.0 and bb > 0.0 else 0.0
