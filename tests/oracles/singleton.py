"""The order in which R's acepack meets tied values: its ``sort`` (Singleton, CACM algorithm 347) is not stable.

Local fits depend on which of the tied points stand at a window's edge, so on tied data a comparison with acepack means
something only where both take the points in one order.
"""

from __future__ import annotations

import numpy as np


def acepack_order(values: np.ndarray) -> np.ndarray:
    """Return the permutation that acepack's ``sort`` finds for `values`."""
    v, a = list(map(float, values)), list(range(len(values)))

    def swap(i: int, j: int) -> None:
        v[i], v[j] = v[j], v[i]
        a[i], a[j] = a[j], a[i]

    def split(low: int, high: int) -> tuple[int, int]:
        """Move the median of three to the middle and part the rest around its value."""
        middle = (low + high + 2) // 2 - 1  # the Fortran counts from 1
        if v[low] > v[middle]:
            swap(low, middle)
        if v[high] < v[middle]:
            swap(high, middle)
            if v[low] > v[middle]:
                swap(low, middle)
        pivot, left, right = v[middle], low, high
        while True:
            right -= 1
            while v[right] > pivot:
                right -= 1
            left += 1
            while v[left] < pivot:
                left += 1
            if left > right:
                return left, right
            swap(left, right)

    def insert(low: int, high: int) -> None:
        for i in range(low + 1, high + 1):
            value, index, k = v[i], a[i], i
            while k > low and value < v[k - 1]:
                v[k], a[k] = v[k - 1], a[k - 1]
                k -= 1
            v[k], a[k] = value, index

    open_parts = [(0, len(v) - 1)]
    while open_parts:
        low, high = open_parts.pop()
        # The part at the beginning is split to the end: only there nothing smaller stands before it.
        while high - low > 10 or (low == 0 and low < high):
            left, right = split(low, high)
            if right - low <= high - left:
                open_parts.append((left, high))
                high = right
            else:
                open_parts.append((low, right))
                low = left
        if low < high:
            insert(low, high)
    return np.array(a)
