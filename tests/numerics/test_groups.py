"""Random draws take all copies of an image together; without copies they are what they would be without groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from pipeline.numerics.ace import both_correlations
from pipeline.numerics.evidence import cross_fitted, halves, permutation_null
from pipeline.numerics.groups import Groups

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


def test_the_evidence_without_copies_is_the_same_with_and_without_groups() -> None:
    values, response, groups = noise(60, 1, n_channels=6)
    observed = both_correlations(values, response)

    def scorer(images: np.ndarray) -> dict[str, np.ndarray]:
        return both_correlations(values[:, images], response[images])

    for draw in (
        lambda each: permutation_null(values, response, observed, 20, seed=0, groups=each)["maximal"].p_value,
        lambda each: cross_fitted(values, response, 4, seed=0, groups=each)["maximal"],
        lambda each: halves(scorer, 60, 8, seed=0, top_k=2, groups=each)["maximal"].scores,
        lambda each: halves(scorer, 60, 8, seed=0, top_k=2, groups=each)["maximal"].curve,
    ):
        np.testing.assert_array_equal(draw(groups), draw(None))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("n_copies", [2, 10])
def test_copies_of_noise_give_no_evidence(n_copies: int) -> None:
    """If copies were on both sides of the draws, the null and the folds would say that the channels matter."""
    values, response, groups = noise(40, n_copies)
    observed = both_correlations(values, response)
    assert observed["maximal"].mean() > 0.4

    def scorer(images: np.ndarray) -> dict[str, np.ndarray]:
        return both_correlations(values[:, images], response[images])

    held_out, n_found = {}, {}
    for name, each in (("together", groups), ("apart", None)):
        null = permutation_null(values, response, observed, 60, seed=0, groups=each)["maximal"]
        n_found[name] = int((null.q_value < 0.05).sum())
        if name == "together":
            spread = null.p_value - np.random.default_rng(3).uniform(size=60) / 61
            assert kstest(spread, "uniform").pvalue > 0.01
        held_out[name] = cross_fitted(values, response, 5, seed=0, groups=each)["maximal"].mean()
    reliability = halves(scorer, len(response), 16, seed=0, top_k=5, groups=groups)["maximal"].curve[-1, 1]
    assert n_found["together"] <= 1
    assert abs(held_out["together"]) < 0.1
    assert abs(reliability) < 0.25
    assert held_out["apart"] > 0.3
    assert n_found["apart"] > 20


def test_halves_share_no_image_and_count_different_images() -> None:
    labels = np.array([0] * 5 + [1] * 3 + list(range(2, 42)))
    chosen: list[set[int]] = []

    def scorer(images: np.ndarray) -> dict[str, np.ndarray]:
        assert (np.diff(images) > 0).all()
        chosen.append(set(labels[images].tolist()))
        assert sum((labels == label).sum() for label in chosen[-1]) == len(images)  # with all copies of each
        return {"score": np.arange(3.0)}

    found = halves(scorer, len(labels), 6, seed=0, top_k=1, groups=Groups.by_label(labels))["score"]
    assert found.curve[:, 0].tolist() == [10, 21]
    for one, other in zip(chosen[::2], chosen[1::2], strict=True):
        assert not one & other
        assert len(one) == len(other)


def test_a_group_of_a_size_of_its_own_keeps_its_place() -> None:
    """Copies of one image cannot be exchanged with single images: all permutations are then the same."""
    groups = Groups.by_label([0, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(groups.permutation(np.random.default_rng(0)), np.arange(6))
    values, response, _ = noise(8, 1, n_channels=3)
    repeats = np.repeat(np.arange(8), np.arange(1, 9))
    observed = both_correlations(values[:, repeats], response[repeats])
    null = permutation_null(
        values[:, repeats], response[repeats], observed, 9, seed=0, groups=Groups.by_label(repeats)
    )["maximal"]
    assert (null.p_value == 1).all()
