from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.numerics.agreement import agreement, rank_biased_overlap, top_overlap

rankings = st.integers(2, 30).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.permutations(range(n))))


def by_definition(first: list[int], second: list[int], p: float) -> float:
    """Webber et al., equation 32, from sets."""
    k = len(first)
    overlaps = [len(set(first[:d]) & set(second[:d])) for d in range(1, k + 1)]
    series = sum(overlap / d * p**d for d, overlap in enumerate(overlaps, start=1))
    return overlaps[-1] / k * p**k + (1 - p) / p * series


@given(rankings, st.floats(0.05, 0.99))
def test_rank_biased_overlap_is_the_papers(pair: tuple[list[int], list[int]], p: float) -> None:
    first, second = pair
    found = rank_biased_overlap(first, second, p)
    assert found == pytest.approx(by_definition(first, second, p))
    assert found == pytest.approx(rank_biased_overlap(second, first, p))
    assert 0 <= found <= 1 + 1e-12
    assert rank_biased_overlap(first, first, p) == pytest.approx(1)


def test_an_overlap_by_hand() -> None:
    # Agreement 0, 1, 1 at depths 1, 2, 3: .1 / .9 * (.81 + .729) + .729
    assert rank_biased_overlap([0, 1, 2], [1, 0, 2]) == pytest.approx(0.9)
    assert rank_biased_overlap([0, 1], [2, 3]) == 0


def test_the_top_weighs_more_than_the_end() -> None:
    order = list(range(40))
    at_top, at_end = [1, 0, *order[2:]], [*order[:-2], 39, 38]
    assert rank_biased_overlap(order, at_top) < rank_biased_overlap(order, at_end)


def test_the_overlap_of_the_top() -> None:
    assert top_overlap([0, 1, 2, 3], [1, 0, 3, 2], 2) == 1
    assert top_overlap([0, 1, 2, 3], [2, 3, 0, 1], 2) == 0
    assert top_overlap([0, 1], [1, 0], 10) == 1


def test_every_pair_is_compared() -> None:
    rng = np.random.default_rng(0)
    ranks = [rng.permutation(20) + 1.0 for _ in range(3)]
    found = agreement([*ranks, 21 - ranks[0]], top=5)
    for name in ("spearman", "kendall", "rank_biased_overlap", "top_overlap"):
        matrix = getattr(found, name)
        assert matrix.shape == (4, 4)
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_array_equal(np.diag(matrix), 1)
    assert found.spearman[0, 3] == pytest.approx(-1)
    assert found.kendall[0, 3] == pytest.approx(-1)
    for i, j in itertools.combinations(range(3), 2):
        assert found.spearman[i, j] == pytest.approx(np.corrcoef(ranks[i], ranks[j])[0, 1])
    assert found.top == 5
