"""Is the evidence true? On noise, on channels whose strength is known, and on its own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, spearmanr

from pipeline.numerics.ace import both_correlations
from pipeline.numerics.evidence import (
    Halves,
    corrected,
    cross_fitted,
    halves,
    images_for,
    permutation_null,
    reliability,
)
from pipeline.numerics.parameters import AceParameters

N_IMAGES = 200


def planted(
    n_channels: int, r: np.ndarray | float, n_components: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return predictors whose sum has correlation `r` with the response, channel by channel, and the response."""
    rng = np.random.default_rng(seed)
    response = rng.normal(size=N_IMAGES)
    values = rng.normal(size=(n_channels, N_IMAGES, n_components))
    strength = np.broadcast_to(r, n_channels)[:, None]
    wanted = strength * response + np.sqrt(1 - strength**2) * rng.normal(size=(n_channels, N_IMAGES))
    values += ((wanted - values.sum(axis=2) / np.sqrt(n_components)) / np.sqrt(n_components))[:, :, None]
    return values, response


def by_halves(
    values: np.ndarray, response: np.ndarray, n_halves: int, top_k: int, seed: int = 0, bass: float = 5.0
) -> Halves:
    def scorer(images: np.ndarray) -> dict[str, np.ndarray]:
        return both_correlations(values[:, images], response[images], parameters=AceParameters(bass=bass))

    return halves(scorer, len(response), n_halves, seed=seed, top_k=top_k)["maximal"]


@pytest.mark.slow
def test_on_noise_p_values_are_uniform_nothing_stands_out_and_the_honest_score_is_0() -> None:
    values, response = (
        np.random.default_rng(1).normal(size=(500, N_IMAGES, 3)),
        np.random.default_rng(2).normal(size=N_IMAGES),
    )
    observed = both_correlations(values, response)
    for name, null in permutation_null(values, response, observed, 200, seed=0).items():
        # Permutation p-values are multiples of 1/201: spread over their step, they are uniform under independence.
        spread = null.p_value - np.random.default_rng(3).uniform(size=500) / 201
        assert kstest(spread, "uniform").pvalue > 0.01, name
        assert (null.q_value < 0.05).sum() <= 1
        assert (null.p_family >= null.p_value).all()
    held_out = cross_fitted(values, response, 5, seed=0)
    assert abs(held_out["maximal"].mean()) < 0.03
    assert abs(held_out["first"].mean()) < 0.03
    assert observed["maximal"].mean() > 0.25  # the raw score of noise; .4 at bass 0


@pytest.mark.slow
def test_planted_channels_are_found_and_few_others() -> None:
    strength = np.zeros(200)
    strength[:10] = np.linspace(0.35, 0.8, 10)
    found, false = np.zeros(10), 0
    for seed in range(3):
        values, response = planted(200, strength, seed=seed)
        observed = both_correlations(values, response)
        null = permutation_null(values, response, observed, 200, seed=seed)["maximal"]
        found += null.q_value[:10] < 0.05
        false += (null.q_value[10:] < 0.05).sum()
    assert (found[strength[:10] >= 0.65] == 3).all()
    assert found[0] < 3  # with 200 images and 200 channels, a correlation of .35 is within the reach of chance
    assert false / (found.sum() + false) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("n_components", [1, 3])
@pytest.mark.parametrize("bass", [0.0, 5.0])
def test_intervals_cover_what_is_true(n_components: int, bass: float) -> None:
    for r in (0.3, 0.6, 0.85):
        values, response = planted(100, r, n_components)
        observed = both_correlations(values, response, parameters=AceParameters(bass=bass))
        found = by_halves(values, response, 60, top_k=10, bass=bass)
        centre, low, high = corrected(observed["maximal"], found.scores)
        assert ((low <= r) & (r <= high)).mean() >= 0.9
        # A smoother fit at half the images is worse by more than the correction reckons with: weak channels lose more.
        most_taken_off = 0.11 if bass > 0 and r == 0.3 else 0.06
        assert r - most_taken_off < centre.mean() < r + 0.06
        assert observed["maximal"].mean() - r > centre.mean() - r  # it corrects downwards
        # Honest from below: transforms of a weak channel, fitted to four fifths of the images, are mostly noise.
        held_out = cross_fitted(values, response, 5, seed=0, parameters=AceParameters(bass=bass))["maximal"].mean()
        assert r / 2 < held_out < r


def test_the_correction_undoes_the_bias_of_a_linear_fit() -> None:
    """1 - R^2 = (1 - r^2)(1 - d) with d parameters per image, and (1 - r^2)(1 - 2 d) at half the images: exactly."""
    r, d = np.array([0.0, 0.3, 0.9]), 0.1
    observed = np.sqrt(1 - (1 - r**2) * (1 - d))
    at_half = np.sqrt(1 - (1 - r**2) * (1 - 2 * d))
    centre, low, high = corrected(observed, np.stack([at_half, at_half]))
    np.testing.assert_allclose(centre, r, atol=1e-7)
    np.testing.assert_allclose([low, high], [r, r], atol=1e-7)


def test_ranks_and_top_k_follow_the_strength() -> None:
    values, response = planted(20, np.linspace(0.9, 0.0, 20))
    found = by_halves(values, response, 40, top_k=5)
    assert found.top_k_chance[:2].min() == 1
    assert found.top_k_chance[12:].max() < 0.2
    assert (found.rank_low <= found.rank_high).all()
    assert found.rank_high[0] <= 3
    assert found.curve[:, 0].tolist() == [25, 50, 100]
    assert found.curve[-1, 1] > 0.75
    assert (np.diff(found.curve[:, 1]) > 0).all()


def test_reliability_foretells_how_rankings_by_other_images_agree() -> None:
    """From below: at half the images ACE's noise is more than twice as large, which Spearman and Brown do not know."""
    strength = np.random.default_rng(0).uniform(0, 0.6, 100)
    pairs = []
    for seed in range(4):
        values, response = planted(100, strength, seed=seed)
        observed = both_correlations(values, response)
        half = by_halves(values, response, 40, top_k=10).curve[-1, 1]
        pairs.append((reliability(half), observed["maximal"]))
    agreement = np.mean([spearmanr(pairs[i][1], pairs[j][1]).statistic for i in range(4) for j in range(i)])
    foretold = np.mean([foretold for foretold, _ in pairs])
    assert agreement - 0.12 < foretold < agreement + 0.02


def test_spearman_and_brown_s_arithmetic() -> None:
    assert reliability(0.5) == pytest.approx(2 / 3)
    assert reliability(-0.2) == -0.2
    assert images_for(300, 0.9) == pytest.approx(300)
    assert images_for(300, 0.75) == pytest.approx(900)
    assert images_for(300, -0.1) == float("inf")


def test_seeds_decide_and_permuting_channels_permutes_the_evidence() -> None:
    values, response = planted(6, 0.1)
    observed = both_correlations(values, response)
    order = np.array([3, 1, 5, 0, 4, 2])
    permuted = {name: each[order] for name, each in observed.items()}
    for draw in (
        lambda v, o, seed: permutation_null(v, response, o, 20, seed=seed)["maximal"].p_value,
        lambda v, o, seed: by_halves(v, response, 10, top_k=2, seed=seed).scores.mean(axis=0),
        lambda v, o, seed: cross_fitted(v, response, 4, seed=seed)["maximal"],
    ):
        once = draw(values, observed, 0)
        np.testing.assert_array_equal(draw(values, observed, 0), once)
        np.testing.assert_array_equal(draw(values[order], permuted, 0), once[order])
        assert (draw(values, observed, 1) != once).any()
