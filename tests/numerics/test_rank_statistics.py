"""Ranks and false discovery rates, against `scipy.stats`."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.numerics.rank_statistics import false_discovery_rates, mean_ranks, spearman


@pytest.mark.parametrize("n", [3, 64, 512, 21_008])
@pytest.mark.parametrize("decimals", [2, 16], ids=["with ties", "without ties"])
def test_they_have_the_bits_of_scipy(n: int, decimals: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        a, b = rng.random((2, n)).round(decimals)
        both = np.column_stack([a, b])
        np.testing.assert_array_equal(mean_ranks(both), stats.rankdata(both, axis=0))
        assert spearman(a, b) == stats.spearmanr(a, b).statistic
        p_values = a**3
        np.testing.assert_array_equal(false_discovery_rates(p_values), stats.false_discovery_control(p_values))


def test_a_single_test_keeps_its_p_value_and_no_test_has_none() -> None:
    assert false_discovery_rates(np.array([0.3])).tolist() == [0.3]
    assert false_discovery_rates(np.array([])).shape == (0,)
