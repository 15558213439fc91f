"""Rank correlations from some of the channels, against those of all channels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.numerics.faithfulness import rank_correlation
from pipeline.numerics.sampled_effects import agreement, over_images, weighted_rank_correlation

N_CHANNELS, N_IMAGES, N_BEST, N_DRAWN = 200, 80, 20, 30


def test_weights_that_are_counts_are_those_of_repeated_channels() -> None:
    rng = np.random.default_rng(0)
    score, effect = rng.integers(0, 12, 40).astype(float), rng.integers(0, 12, 40).astype(float)  # with ties
    counts = rng.integers(1, 6, 40)
    expected = stats.spearmanr(np.repeat(score, counts), np.repeat(effect, counts)).statistic
    assert weighted_rank_correlation(score, effect, counts.astype(float)) == pytest.approx(expected, abs=1e-12)
    assert weighted_rank_correlation(score, effect, np.ones(40)) == rank_correlation(score, effect)
    assert weighted_rank_correlation(score, np.zeros(40), counts.astype(float)) is None


def layer(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores, best first, and changes whose magnitudes follow them in part."""
    rng = np.random.default_rng(seed)
    score = np.sort(rng.random(N_CHANNELS))[::-1]
    size = 0.7 * score + 0.5 * rng.random(N_CHANNELS)
    return score, size[:, None] * (1 + 0.5 * rng.standard_normal((N_CHANNELS, N_IMAGES)))


def test_the_best_channels_and_a_sample_estimate_the_correlation_of_all() -> None:
    errors, is_inside, naive = [], [], []
    for seed in range(40):
        score, changes = layer(seed)
        everything = rank_correlation(score, np.abs(changes).mean(axis=1))
        assert everything is not None
        drawn = N_BEST + np.random.default_rng(seed).choice(N_CHANNELS - N_BEST, N_DRAWN, replace=False)
        measured = np.concatenate([np.arange(N_BEST), np.sort(drawn)])
        found = agreement(
            score[measured], changes[measured], measured < N_BEST, N_CHANNELS - N_BEST, seed
        )  # fmt: skip
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        errors.append(found.value - everything)
        is_inside.append(found.low <= everything <= found.high)
        unweighted = rank_correlation(score[measured], np.abs(changes[measured]).mean(axis=1))
        assert unweighted is not None
        naive.append(unweighted - everything)
    assert abs(np.mean(errors)) < 0.02
    assert abs(np.mean(errors)) < abs(np.mean(naive))
    assert np.mean(is_inside) >= 0.9


def test_if_all_channels_are_measured_the_interval_is_that_of_the_images() -> None:
    score, changes = layer(0)
    everything = np.ones(N_CHANNELS, dtype=bool)
    found = agreement(score, changes, everything, 0, seed=0)
    assert found.value == rank_correlation(score, np.abs(changes).mean(axis=1))
    same = agreement(score, np.repeat(changes.mean(axis=1)[:, None], N_IMAGES, axis=1), everything, 0, seed=0)
    assert same.low == pytest.approx(same.value)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert agreement(score[:20], changes[:20], everything[:20], 180, seed=0).value is None  # nothing of the others


def test_the_interval_over_images_is_that_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(size=100)
    found = over_images(float(values.mean()), lambda images: float(values[images].mean()), 100, seed=0)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / 10, rel=0.2)
    assert over_images(None, lambda images: 1.0, 100, seed=0).value is None
