"""Curves of deletion and insertion, where the answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.numerics.faithfulness import (
    ablation_counts,
    ablation_curves,
    ablation_sets,
    area,
    random_orders,
    rank_correlation,
)

WEIGHTS = np.array([8.0, 0.0, 4.0, 2.0, 1.0, 0.5])  # what each channel adds to the class score; 1 is dead


def curves(order: list[int], n_draws: int = 20) -> pd.DataFrame:
    best_first = np.array(order)
    orders = np.concatenate([[best_first, best_first[::-1]], random_orders(np.sort(best_first), n_draws, seed=0)])
    left = 3 + (~ablation_sets(orders, len(WEIGHTS))) @ WEIGHTS
    return ablation_curves(left[:2], left[2:], len(order))


def measured(found: pd.DataFrame, name: str) -> float:
    """Return the area under a curve that is known to have one."""
    value = area(found, name)
    assert value is not None
    return value


def test_the_sets_are_the_first_the_last_and_random_ones() -> None:
    order = np.array([0, 2, 3, 4, 5])
    drawn = random_orders(order, 3, seed=0)
    assert (np.sort(drawn) == order).all()
    sets = ablation_sets(np.concatenate([[order, order[::-1]], drawn]), 6)
    counts = ablation_counts(5)
    assert sets.shape == (5, len(counts), 6)
    assert (sets.sum(axis=2) == counts).all()
    assert not sets[:, :, 1].any()  # dead
    assert np.flatnonzero(sets[0, list(counts).index(2)]).tolist() == [0, 2]
    assert np.flatnonzero(sets[1, list(counts).index(2)]).tolist() == [4, 5]
    assert (random_orders(np.arange(6), 3, seed=1) != random_orders(np.arange(6), 3, seed=2)).any()


@pytest.mark.parametrize("n_channels", [1, 2, 3, 7, 16, 64, 1000])
def test_the_counts_are_the_same_from_either_end(n_channels: int) -> None:
    counts = ablation_counts(n_channels)
    assert (counts[0], counts[-1]) == (0, n_channels)
    assert (np.diff(counts) > 0).all()
    assert counts.tolist() == (n_channels - counts)[::-1].tolist()
    assert len(counts) <= 18


def test_a_faithful_ranking_has_a_small_area_of_deletion_and_a_large_one_of_insertion() -> None:
    good, bad = curves([0, 2, 3, 4, 5]), curves([5, 4, 3, 2, 0])
    for name in ("deletion", "insertion"):
        assert (good[f"{name}_top"] == bad[f"{name}_bottom"]).all()
        assert (good[f"{name}_random_low"] <= good[f"{name}_random_high"]).all()
    assert measured(good, "deletion_top") < measured(good, "deletion_random") < measured(bad, "deletion_top")
    assert measured(good, "insertion_top") > measured(good, "insertion_random") > measured(bad, "insertion_top")
    assert area(good, "deletion_random") == pytest.approx(0.5, abs=0.1)
    assert good.deletion_top.tolist() == [1, *good.deletion_top[1:-1], 0]
    # Kept: channel 0 is 8 of 15.5, channels 0 and 2 are 12.
    kept = good.set_index("n_channels").insertion_top
    assert kept[2] == pytest.approx(12 / 15.5)


def test_where_nothing_moves_there_is_no_area() -> None:
    still = ablation_curves(np.ones((2, 5)), np.ones((3, 5)), 4)
    assert area(still, "deletion_top") is None


def test_the_rank_correlation_needs_something_to_rank() -> None:
    score = np.array([0.9, 0.5, 0.4, 0.1])
    assert rank_correlation(score, score**3) == pytest.approx(1)
    assert rank_correlation(score, -score) == pytest.approx(-1)
    assert rank_correlation(score, np.zeros(4)) is None
    assert rank_correlation(score[:2], score[:2]) is None
