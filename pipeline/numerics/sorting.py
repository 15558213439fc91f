"""A stable argsort that is fast for many short arrays of a few hundred numbers.

It is a radix sort, since a comparison sort of such arrays spends most of its time on mispredicted branches.
"""

from __future__ import annotations

import numpy as np

from pipeline.numerics.compiled import compiled

N_DIGITS, N_BUCKETS = 4, 256
MOST_MOVES = 8  # for each value, in the insertion sort; if more are needed, the values are too uneven for buckets


@compiled
def stable_order(values, order, keys, other, other_order):
    """Fill `order` (int64) with the stable argsort of `values` (float64, finite).

    A radix sort by each value's position in the range, in 32 bits, is followed by an insertion sort for values that
    share a position. `keys` and `other` (uint32) and `other_order` (int64) are scratch arrays of the same length.
    """
    n = values.size
    low = high = values[0]
    for i in range(n):
        low = values[i] if values[i] < low else low
        high = values[i] if values[i] > high else high
    # Halved, so that the range of the largest numbers is finite. Rounding never reverses an order.
    span = 0.5 * high - 0.5 * low
    if span < 1e-290:
        _merge_sort(values, order, other_order)
        return
    factor = (N_BUCKETS**N_DIGITS - 1.0) / span
    counts = np.zeros((N_DIGITS, N_BUCKETS), dtype=np.int64)
    for i in range(n):
        key = np.uint32((0.5 * values[i] - 0.5 * low) * factor)
        keys[i] = key
        order[i] = i
        counts[0, key & 255] += 1
        counts[1, (key >> 8) & 255] += 1
        counts[2, (key >> 16) & 255] += 1
        counts[3, key >> 24] += 1
    for digit in range(N_DIGITS):
        total = 0
        for bucket in range(N_BUCKETS):
            count = counts[digit, bucket]
            counts[digit, bucket] = total
            total += count
    for digit in range(0, N_DIGITS, 2):
        _distribute(keys, order, 8 * digit, counts[digit], other, other_order)
        _distribute(other, other_order, 8 * digit + 8, counts[digit + 1], keys, order)
    moves = 0
    for i in range(1, n):
        this = order[i]
        value = values[this]
        j = i - 1
        while j >= 0 and values[order[j]] > value:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = this
        moves += i - 1 - j
        if moves > MOST_MOVES * n:
            _merge_sort(values, order, other_order)
            return


@compiled
def _merge_sort(values, order, other):
    """Fill `order` by a bottom-up merge sort, whose time does not depend on the values.

    NumPy's stable argsort, compiled by numba, would add seconds to the compilation.
    """
    n = values.size
    for i in range(n):
        order[i] = i
    width = 1
    while width < n:
        for start in range(0, n, 2 * width):
            middle, stop = min(start + width, n), min(start + 2 * width, n)
            left, right = start, middle
            for i in range(start, stop):
                if right == stop or (left < middle and values[order[left]] <= values[order[right]]):
                    other[i] = order[left]
                    left += 1
                else:
                    other[i] = order[right]
                    right += 1
        for i in range(n):
            order[i] = other[i]
        width *= 2


@compiled
def _distribute(keys, order, shift, starts, keys_out, order_out):
    """Make one pass of the radix sort, by the 8 bits from bit `shift` upwards."""
    for i in range(keys.size):
        key = keys[i]
        bucket = (key >> shift) & 255
        place = starts[bucket]
        starts[bucket] = place + 1
        keys_out[place] = key
        order_out[place] = order[i]
