"""Random draws take all copies of an image together; without copies they are what they would be without groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from pipeline.numerics.ace import AceEstimator, ByStatistic, SplineAce, SupersmootherAce
from pipeline.numerics.evidence import Halves, cross_fitted, halves, one_by_one, permutation_null
from pipeline.numerics.groups import Groups
from pipeline.numerics.spline_smoothness import select_smoothness
from pipeline.numerics.spline_solver import Smoothness
from pipeline.progress import Progress
from tests.helpers.estimators import ESTIMATORS

of_both_smoothers = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
LABELS = st.lists(st.integers(0, 8), min_size=1, max_size=40)


@given(LABELS)
def test_every_image_is_in_one_group_with_its_copies(labels: list[int]) -> None:
    groups = Groups.by_label(labels)
    assert sorted(index for members in groups.members for index in members) == list(range(len(labels)))
    assert [len({labels[index] for index in members}) for members in groups.members] == [1] * len(set(labels))
    firsts = [members[0] for members in groups.members]
    assert firsts == sorted(firsts)
    assert groups.n_images == len(labels)


@given(LABELS, st.integers(0, 99))
def test_a_permutation_exchanges_whole_groups_of_the_same_size(labels: list[int], seed: int) -> None:
    groups = Groups.by_label(labels)
    drawn = groups.permutation(np.random.default_rng(seed))
    assert sorted(drawn) == list(range(len(labels)))  # the values of a response stay the same
    for members in groups.members:
        sources = {labels[index] for index in drawn[members]}
        assert len(sources) == 1  # copies get the response of copies
        assert labels.count(sources.pop()) == len(members)


def test_without_copies_the_draws_are_those_without_groups() -> None:
    groups = Groups.without_copies(50)
    np.testing.assert_array_equal(
        groups.permutation(np.random.default_rng(3)), np.random.default_rng(3).permutation(50)
    )
    np.testing.assert_array_equal(groups.images(np.array([4, 2, 9])), [4, 2, 9])
    one, other = Groups.by_label(np.arange(50)), groups
    assert [each.tolist() for each in one.members] == [each.tolist() for each in other.members]


def noise(
    n_different: int, n_copies: int, n_channels: int = 60, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, Groups]:
    """Channels and a response without any association, for images of which each occurs `n_copies` times."""
    rng = np.random.default_rng(seed)
    values = np.tile(rng.normal(size=(n_channels, n_different, 1)), (1, n_copies, 1))
    response = np.tile(rng.normal(size=n_different), n_copies)
    return values, response, Groups.by_label(np.tile(np.arange(n_different), n_copies))


def by_halves(
    estimator: AceEstimator, values: np.ndarray, response: np.ndarray, n_halves: int, groups: Groups | None
) -> Halves:
    return halves(
        lambda sets, progress: estimator.on_subsets(values, response, sets, progress),
        len(response), n_halves, seed=0, top_k=5, groups=groups,
    )["maximal"]  # fmt: skip


@of_both_smoothers
def test_the_evidence_without_copies_is_the_same_with_and_without_groups(estimator: AceEstimator) -> None:
    values, response, groups = noise(60, 1, n_channels=6)
    observed = estimator.fit(values, response).statistics
    for draw in (
        lambda each: (
            permutation_null(estimator, values, response, observed, 20, seed=0, groups=each)["maximal"].p_value
        ),
        lambda each: cross_fitted(estimator, values, response, 4, seed=0, groups=each)["maximal"],
        lambda each: by_halves(estimator, values, response, 8, each).scores,
        lambda each: by_halves(estimator, values, response, 8, each).curve,
    ):
        np.testing.assert_array_equal(draw(groups), draw(None))  # type: ignore[no-untyped-call]


# Each with the smallest mean held-out correlation that copies on both sides of a fold give to noise. Stiff splines are
# hardly affected by copies, so they are flexible here.
FLEXIBLE = {"spline": (SplineAce(Smoothness(0.98, 0.98)), 0.25), "supersmoother": (SupersmootherAce(), 0.3)}


@pytest.mark.parametrize(("estimator", "smallest"), FLEXIBLE.values(), ids=FLEXIBLE)
@pytest.mark.parametrize("n_copies", [2, 10])
def test_copies_of_noise_give_no_evidence(estimator: AceEstimator, smallest: float, n_copies: int) -> None:
    """If copies were on both sides of the draws, the null and the folds would say that the channels matter."""
    values, response, groups = noise(40, n_copies)
    observed = estimator.fit(values, response).statistics
    assert observed["maximal"].mean() > 0.4
    held_out, n_found = {}, {}
    for name, each in (("together", groups), ("apart", None)):
        null = permutation_null(estimator, values, response, observed, 60, seed=0, groups=each)["maximal"]
        n_found[name] = int((null.q_value < 0.05).sum())
        if name == "together":
            spread = null.p_value - np.random.default_rng(3).uniform(size=60) / 61
            assert kstest(spread, "uniform").pvalue > 0.01
        held_out[name] = cross_fitted(estimator, values, response, 5, seed=0, groups=each)["maximal"].mean()
    reliability = by_halves(estimator, values, response, 16, groups).curve[-1, 1]
    assert n_found["together"] <= 1
    assert abs(held_out["together"]) < 0.1
    assert abs(reliability) < 0.25
    assert held_out["apart"] > smallest
    assert n_found["apart"] > 20


@pytest.mark.slow
def test_with_splines_copies_in_unequal_numbers_give_no_evidence() -> None:
    """The smoothness is chosen with the copies held out together, as `score_by_ace` does."""
    rng = np.random.default_rng(0)
    repeats = np.repeat(np.arange(120), rng.integers(1, 5, 120))
    groups = Groups.by_label(repeats)
    values, response, _ = noise(120, 1, n_channels=500)
    values, response = values[:, repeats], response[repeats]
    estimator = SplineAce(select_smoothness(values, response, seed=0, groups=groups).smoothness)
    observed = estimator.fit(values, response).statistics
    for name, null in permutation_null(estimator, values, response, observed, 200, seed=0, groups=groups).items():
        spread = null.p_value - np.random.default_rng(3).uniform(size=500) / 201
        assert kstest(spread, "uniform").pvalue > 0.01, name
        assert (null.q_value < 0.05).sum() <= 1
    held_out = cross_fitted(estimator, values, response, 5, seed=0, groups=groups)
    assert max(abs(each.mean()) for each in held_out.values()) < 0.03
    found = by_halves(estimator, values, response, 16, groups)
    assert found.curve[-1, 0] == 60
    assert abs(found.curve[-1, 1]) < 0.1


@of_both_smoothers
def test_halves_with_copies_in_unequal_numbers_are_scored_as_their_images(estimator: AceEstimator) -> None:
    rng = np.random.default_rng(0)
    repeats = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    values, response, _ = noise(60, 1, n_channels=4)
    values, response = values[:, repeats], response[repeats]
    sets: list[np.ndarray] = []

    def scorer(chosen: Sequence[np.ndarray], progress: Progress) -> ByStatistic:
        sets.extend(chosen)
        return estimator.on_subsets(values, response, chosen, progress)

    found = halves(scorer, len(response), 12, seed=0, top_k=2, groups=Groups.by_label(repeats))
    assert len({len(each) for each in sets[:12]}) > 1
    for number, chosen in enumerate(sets[:12]):
        for name, scores in estimator.on_subsets(values, response, [chosen]).items():
            np.testing.assert_allclose(found[name].scores[number], scores[:, 0], atol=1e-12)


@pytest.mark.parametrize("smoother", ["spline", "supersmoother"])
def test_halves_with_copies_in_unequal_numbers_are_all_counted(smoother: str) -> None:
    repeats = np.repeat(np.arange(60), np.random.default_rng(0).integers(1, 5, 60))
    values, response, _ = noise(60, 1, n_channels=4)
    ticks: list[int] = []
    halves(
        lambda sets, progress: ESTIMATORS[smoother].on_subsets(values[:, repeats], response[repeats], sets, progress),
        len(repeats), 12, seed=0, top_k=2, groups=Groups.by_label(repeats), tick=lambda: ticks.append(1),
    )  # fmt: skip
    assert len(ticks) == 6


def test_halves_share_no_image_and_count_different_images() -> None:
    labels = np.array([0] * 5 + [1] * 3 + list(range(2, 42)))
    chosen: list[set[int]] = []

    def scorer(images: np.ndarray) -> dict[str, np.ndarray]:
        assert (np.diff(images) > 0).all()
        chosen.append(set(labels[images].tolist()))
        assert sum((labels == label).sum() for label in chosen[-1]) == len(images)  # with all copies of each
        return {"score": np.arange(3.0)}

    found = halves(one_by_one(scorer), len(labels), 6, seed=0, top_k=1, groups=Groups.by_label(labels))["score"]
    assert found.curve[:, 0].tolist() == [10, 21]
    for one, other in zip(chosen[::2], chosen[1::2], strict=True):
        assert not one & other
        assert len(one) == len(other)


@of_both_smoothers
def test_a_group_of_a_size_of_its_own_keeps_its_place(estimator: AceEstimator) -> None:
    """Copies of one image cannot be exchanged with single images: all permutations are then the same."""
    groups = Groups.by_label([0, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(groups.permutation(np.random.default_rng(0)), np.arange(6))
    values, response, _ = noise(8, 1, n_channels=3)
    repeats = np.repeat(np.arange(8), np.arange(1, 9))
    values, response = values[:, repeats], response[repeats]
    # With a permutation that changes nothing, so that both are computed by the same products.
    observed = {name: each[:, 0] for name, each in estimator.permuted(values, response, np.arange(36)[None]).items()}
    groups = Groups.by_label(repeats)
    null = permutation_null(estimator, values, response, observed, 9, seed=0, groups=groups)["maximal"]
    np.testing.assert_allclose(null.mean, observed["maximal"], atol=1e-9)
    assert (null.deviation < 1e-9).all()
    fitted = estimator.fit(values, response).statistics
    null = permutation_null(estimator, values, response, fitted, 9, seed=0, groups=groups)["maximal"]
    assert (null.p_value == 1).all()
