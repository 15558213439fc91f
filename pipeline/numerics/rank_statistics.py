"""Ranks, their correlation, and false discovery rates, which give the bits of `scipy.stats`.

Importing `scipy.stats` takes half a second, because it imports most of SciPy. A run of the default network would wait
for it, and needs these functions only.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.arrays import Float64Array, FloatArray


def mean_ranks(values: FloatArray) -> Float64Array:
    """Return the ranks in each column of values, (n, n_columns), 1 for the smallest; ties have their mean rank."""
    return np.ascontiguousarray(pd.DataFrame(values).rank(), dtype=float)


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Return Spearman's correlation of two variables of shape (n,), of which neither is constant."""
    correlations = np.asarray(np.corrcoef(mean_ranks(np.column_stack([a, b])), rowvar=False))
    return float(correlations[1, 0])


def false_discovery_rates(p_values: FloatArray) -> Float64Array:
    """Return the smallest false discovery rate at which each of the tests is significant.

    Parameters
    ----------
    p_values : ndarray of shape (n_tests,)
        P-values of independent or positively dependent tests.

    Returns
    -------
    ndarray of shape (n_tests,)
        Rates in [0, 1].

    References
    ----------
    Benjamini and Hochberg (1995), "Controlling the false discovery rate: a practical and powerful approach to multiple
    testing", Journal of the Royal Statistical Society B 57(1).
    """
    order = np.argsort(p_values)
    rates = p_values[order] * (len(p_values) / np.arange(1, len(p_values) + 1, dtype=float))
    result = np.empty_like(rates)
    result[order] = np.minimum.accumulate(rates[::-1])[::-1]
    return np.clip(result, 0, 1)
