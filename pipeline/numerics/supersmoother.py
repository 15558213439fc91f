"""Friedman's supersmoother, compiled: local linear fits with a span that varies with x, chosen by cross-validation.

Everything that depends on x only (window means, inverse variances, leverages, ties) is computed once for each x by
`prepare` and used for every y that is smoothed against it: ACE smooths against the same x in each of its iterations,
and again for each permutation of a null. For each y there remain cumulative sums, whose differences are the sums over
the windows, and multiply-adds that the compiler vectorises.

For a window of w neighbours with S = sum(y), T = sum(x y), mean m of x and sum of squares v of x around m, the fit at x
is ``S / w + (x - m) / v (T - m S)``. It is linear in S and T, so two coefficients for each x and span suffice.

References
----------
Friedman (1984), "A variable span smoother", SLAC PUB-3477. Window sizes, slope threshold, ties and bass are those of
the Fortran subroutine ``supsmu`` in Friedman's ``mace.f``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Float64Array, FloatArray, Int64Array
from pipeline.errors import InputError
from pipeline.numerics.compiled import compiled
from pipeline.numerics.lanes import numbers, where
from pipeline.numerics.parameters import SPANS, check_smoothing

MIN_POINTS = 5  # size of the smallest window: a point and two neighbours on each side
# Windows in which the sum of squares of x is at most the square of this share of its interquartile range get no slope
# (``eps`` in ``supsmu``).
SLOPE_THRESHOLD = 1e-3
# A point that alone determines the fit at its x has leverage 1, up to some units in the last place.
FULL_LEVERAGE = 64 * np.finfo(np.float64).eps
SMALLEST_RATIO = 1e-7  # smallest ratio of residuals in the bass enhancement (``sml`` in ``supsmu``)

# Rows of the table that `prepare` fills: x, then for each span the coefficients of S and T and the factor
# 1 / (1 - leverage), which turns a residual into that of a fit without the point itself.
N_TABLE_ROWS = 10
N_WORK_ROWS = 16
HAS_TIES, HAS_FULL_LEVERAGE = 1, 2


def supersmooth(x: ArrayLike, y: ArrayLike, *, bass: float = 0.0, spans: Sequence[float] = SPANS) -> Float64Array:
    """Return an estimate of the conditional expectation E[y | x] at every x, by Friedman's supersmoother.

    Parameters
    ----------
    x, y : array_like of shape (n_points,)
        Finite values; at least 5 points. Points with equal x get the mean of their smooths. If all x are equal, the
        result is the mean of y.
    bass : float, default=0.0
        Smoothness, in [0, 10]: larger values prefer longer windows where several do about equally well. 0 is the
        default of R's ``supsmu``; that of ACE is 5, see `pipeline.numerics.AceParameters`.
    spans : sequence of 3 floats, default=(0.05, 0.2, 0.5)
        Widths of the windows that are tried, as shares of the points: increasing, in (0, 1].

    Returns
    -------
    ndarray of shape (n_points,)
        The smooth, in the order of the points.

    Raises
    ------
    InputError
        If a value is not finite, the lengths differ, there are fewer than 5 points, or a parameter is out of its range.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(f"x and y must be two vectors of one length; got shapes {x.shape} and {y.shape}.")
    if len(x) < MIN_POINTS:
        raise InputError(f"x must have at least {MIN_POINTS} points; got {len(x)}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("x and y must be finite; got NaN or infinity.")
    check_smoothing(bass, spans)
    windows = window_sizes(len(x), spans)
    if np.ptp(x) == 0:
        return np.full(len(x), y.mean())
    order = np.argsort(x, kind="stable")
    # Scaling by powers of two changes no digit, and keeps squares from overflowing and from underflowing.
    x_sorted, y_sorted = power_of_two_scaled(x)[0][order], y[order]
    y_scaled, exponent = power_of_two_scaled(y_sorted)
    table = np.empty((N_TABLE_ROWS, len(x)))
    flags = prepare(x_sorted, windows, table)
    smooth = np.empty(len(x))
    work = np.empty((N_WORK_ROWS, len(x) + 1))
    smooth_sorted(table, flags, windows, np.asarray(spans, dtype=np.float64), float(bass), y_scaled, smooth, work)
    result = np.empty(len(x))
    result[order] = np.ldexp(smooth, exponent)
    return result


def window_sizes(n_points: int, spans: Sequence[float]) -> Int64Array:
    """Return the number of neighbours on each side of a point, for each span."""
    sides = [max(int(0.5 * span * n_points + 0.5), 2) for span in spans]
    return np.array([min(side, (n_points - 1) // 2) for side in sides], dtype=np.int64)


def power_of_two_scaled(values: FloatArray) -> tuple[Float64Array, int]:
    """Return the values times 2**-exponent and the exponent, such that the largest magnitude is in [0.5, 1)."""
    exponent = int(np.frexp(np.abs(values).max(initial=0.0))[1])
    half = exponent // 2  # in two steps, since 2**-exponent itself may overflow
    return np.ldexp(np.ldexp(values, -half), half - exponent), exponent


@compiled
def prepare(x, sides, table):
    """Fill `table` (N_TABLE_ROWS, n_points) for `x` in increasing order, not all equal; return flags.

    Means and sums of squares are updated from one window to the next (Chan, Golub and LeVeque, 1983).
    """
    n = x.size
    lower = max(n // 4, 1) - 1
    upper = 3 * (lower + 1) - 1
    scale = x[upper] - x[lower]
    while scale <= 0.0 and (upper < n - 1 or lower > 0):
        upper = min(upper + 1, n - 1)
        lower = max(lower - 1, 0)
        scale = x[upper] - x[lower]
    threshold = (SLOPE_THRESHOLD * scale) ** 2

    # x is centred on its median, which keeps the sums of x y in the windows small.
    centre = 0.5 * (x[n // 2] + x[(n - 1) // 2])
    centred = table[0]
    n_ties = 0
    for i in range(n):
        centred[i] = x[i] - centre
    for i in range(n - 1):
        n_ties += x[i + 1] <= x[i]

    n_full = 0
    for span in range(3):
        side = sides[span]
        width = 2 * side + 1
        share = 1.0 / width
        mean = squares = 0.0
        for i in range(width):
            mean += centred[i]
        mean *= share
        for i in range(width):
            squares += (centred[i] - mean) ** 2
        means, slopes, factors = table[1 + 3 * span], table[2 + 3 * span], table[3 + 3 * span]
        means[: side + 1] = mean
        slopes[: side + 1] = squares
        for i in range(side + 1, n - side):
            arriving, leaving = centred[i + side], centred[i - side - 1]
            step = arriving - leaving
            before = mean
            mean += step * share
            squares += step * ((arriving - mean) + (leaving - before))
            means[i] = mean
            slopes[i] = squares
        means[n - side :] = mean
        slopes[n - side :] = squares
        for i in range(n):
            offset = centred[i] - means[i]
            slope = offset / slopes[i]
            slope = slope if slopes[i] > threshold else 0.0
            rest = 1.0 - share - offset * slope
            factors[i] = 1.0 / rest if rest > FULL_LEVERAGE else -1.0
            means[i] = share - slope * means[i]
            slopes[i] = slope
        for i in range(n):
            n_full += factors[i] < 0.0
    return (HAS_TIES if n_ties > 0 else 0) | (HAS_FULL_LEVERAGE if n_full > 0 else 0)


@compiled
def smooth_sorted(table, flags, sides, spans, bass, y, smooth, work):
    """Fill `smooth` (n_points,) with the supersmoother of `y`, both in the order of increasing x.

    `table` and `flags` come from `prepare`, and `work` (N_WORK_ROWS, n_points + 1) is scratch. If `y`, `smooth` and
    `work` hold lanes instead of numbers, several y are smoothed at once.
    """
    n = y.size
    x = table[0]
    sums, moments = work[0], work[1]
    low, mid, high = work[2, :n], work[3, :n], work[4, :n]
    r_low, r_mid, r_high = work[5, :n], work[6, :n], work[7, :n]
    best, curve = work[8, :n], work[9, :n]

    _accumulate(x, y, sums, moments)
    _window_fit(table[1], table[2], sums, moments, sides[0], low)
    _window_fit(table[4], table[5], sums, moments, sides[1], mid)
    _window_fit(table[7], table[8], sums, moments, sides[2], high)
    _residuals(y, low, table[3], flags, r_low)
    _residuals(y, mid, table[6], flags, r_mid)
    _residuals(y, high, table[9], flags, r_high)
    if flags & HAS_TIES:
        _share_ties(x, low)
        _share_ties(x, mid)
        _share_ties(x, high)

    # The sums of all three residuals in one loop: six chains of additions that do not depend on one another.
    s_low, s_mid, s_high = work[10], work[11], work[12]
    t_low, t_mid, t_high = work[13], work[14], work[15]
    a = b = c = d = e = f = 0.0
    s_low[0] = s_mid[0] = s_high[0] = t_low[0] = t_mid[0] = t_high[0] = 0.0
    for i in range(n):
        a += r_low[i]
        b += r_mid[i]
        c += r_high[i]
        d += x[i] * r_low[i]
        e += x[i] * r_mid[i]
        f += x[i] * r_high[i]
        s_low[i + 1] = a
        s_mid[i + 1] = b
        s_high[i + 1] = c
        t_low[i + 1] = d
        t_mid[i + 1] = e
        t_high[i + 1] = f
    _window_fit(table[4], table[5], s_low, t_low, sides[1], r_low)
    _window_fit(table[4], table[5], s_mid, t_mid, sides[1], r_mid)
    _window_fit(table[4], table[5], s_high, t_high, sides[1], r_high)
    if flags & HAS_TIES:
        _share_ties(x, r_low)
        _share_ties(x, r_mid)
        _share_ties(x, r_high)

    tweeter, midrange, woofer = spans[0], spans[1], spans[2]
    for i in range(n):
        is_mid = r_mid[i] < r_low[i]
        least, span = where(is_mid, r_mid[i], r_low[i]), where(is_mid, midrange, tweeter)
        best[i] = where(r_high[i] < least, woofer, span)
    if bass > 0.0:
        _enhance_bass(numbers(r_low), numbers(r_mid), numbers(r_high), woofer, bass, numbers(best))
    _accumulate(x, best, sums, moments)
    _window_fit(table[4], table[5], sums, moments, sides[1], best)
    if flags & HAS_TIES:
        _share_ties(x, best)

    below, above = 1.0 / (midrange - tweeter), 1.0 / (woofer - midrange)
    for i in range(n):
        span = where(best[i] < tweeter, tweeter, best[i])
        span = where(span > woofer, woofer, span)
        step = span - midrange
        up, down = step * above * (high[i] - mid[i]), step * below * (mid[i] - low[i])
        curve[i] = mid[i] + where(step > 0.0, up, down)
    _accumulate(x, curve, sums, moments)
    _window_fit(table[1], table[2], sums, moments, sides[0], smooth)
    if flags & HAS_TIES:
        _share_ties(x, smooth)


@compiled
def _enhance_bass(r_low, r_mid, r_high, woofer, bass, best):
    """Move the best spans towards the longest span, further where its residuals are hardly larger."""
    power = 10.0 - bass
    whole = int(power) if power == np.floor(power) else -1
    n, n_lanes = best.shape
    for i in range(n):
        for lane in range(n_lanes):
            least = r_mid[i, lane] if r_mid[i, lane] < r_low[i, lane] else r_low[i, lane]
            if 0.0 < least < r_high[i, lane]:
                ratio = max(SMALLEST_RATIO, least / r_high[i, lane])
                best[i, lane] += (woofer - best[i, lane]) * (ratio**whole if whole >= 0 else ratio**power)


@compiled
def _accumulate(x, y, sums, moments):
    """Fill the cumulative sums of y and of x y, which begin with 0."""
    total = moment = 0.0
    sums[0] = moments[0] = 0.0
    for i in range(y.size):
        total += y[i]
        moment += x[i] * y[i]
        sums[i + 1] = total
        moments[i + 1] = moment


@compiled
def _window_fit(intercepts, slopes, sums, moments, side, out):
    """Fill `out` with the local linear fits; near both ends, all points share the first or the last window."""
    n = out.size
    width = 2 * side + 1
    total, moment = sums[width], moments[width]
    for i in range(side):
        out[i] = intercepts[i] * total + slopes[i] * moment
    n_inside = n - width + 1
    inside, a, b = out[side:], intercepts[side:], slopes[side:]
    sums_ahead, moments_ahead = sums[width:], moments[width:]
    for i in range(n_inside):
        inside[i] = a[i] * (sums_ahead[i] - sums[i]) + b[i] * (moments_ahead[i] - moments[i])
    total, moment = sums[n] - sums[n - width], moments[n] - moments[n - width]
    for i in range(n - side, n):
        out[i] = intercepts[i] * total + slopes[i] * moment


@compiled
def _residuals(y, fit, factors, flags, out):
    """Fill `out` with the absolute residuals of fits without the point itself.

    Where a point alone determines the fit, its residual is not defined, and that of the point before is taken.
    """
    for i in range(y.size):
        out[i] = abs(y[i] - fit[i]) * factors[i]
    if flags & HAS_FULL_LEVERAGE:
        for i in range(y.size):
            if factors[i] < 0.0:
                out[i] = out[i - 1] if i > 0 else 0.0


@compiled
def _share_ties(x, values):
    """Set the values of points with equal x to their mean."""
    n = x.size
    start = 0
    while start < n:
        stop = start + 1
        total = values[start]
        while stop < n and x[stop] <= x[start]:
            total += values[stop]
            stop += 1
        if stop > start + 1:
            values[start:stop] = total / (stop - start)
        start = stop
