from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import AceFit, ChannelScores, Ranking
from pipeline.config import compose_settings
from pipeline.stages import rank

ACCURACY = (
    "Its estimated accuracy, the agreement with the ranking from an unlimited number of images, is {} (Spearman "
    "correlation)."
)


def scores(
    maximal: list[float],
    first: list[float] | None = None,
    dead: list[bool] | None = None,
    evidence: dict[str, list[float]] | None = None,
    curve: list[tuple[int, float]] | None = None,
) -> ChannelScores:
    n = len(maximal)
    return ChannelScores(
        values={"maximal": np.array(maximal), "first": np.array(first if first is not None else maximal)},
        dead=np.array(dead if dead is not None else [False] * n),
        evidence={name: pd.DataFrame(evidence or {}, index=range(n)) for name in ("maximal", "first")},
        curves={name: np.array(curve or np.empty((0, 2))) for name in ("maximal", "first")},
        fit=AceFit(np.arange(n) / n, np.zeros((n, 5, 1)), np.zeros((n, 5)), iterations=np.arange(n)),
    )


def ranked(found: ChannelScores, by: str = "maximal") -> Ranking:
    statistic = "first" if by == "first" else "maximal"
    reads = rank.RankReads(by, statistic, "m", "conv", "8", 8, 5, 1, 0)
    return rank.run(reads, scores=found)


def test_channels_are_ordered_by_score_then_by_index_with_dead_channels_last() -> None:
    table = ranked(scores([0.2, 0.9, 0.0, 0.9, 0.0], dead=[False, False, True, False, False])).table
    assert table.channel.tolist() == [1, 3, 0, 4, 2]
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]
    assert table.dead.tolist() == [False, False, False, False, True]


def test_the_columns_have_a_fixed_order() -> None:
    columns = ranked(scores([0.1, 0.2])).table.columns.tolist()
    assert columns[:8] == [
        "rank", "channel", "score", "score_maximal", "score_first", "r_squared", "iterations", "dead",
    ]  # fmt: skip
    assert columns[8:] == [
        "by", "statistic", "model", "layer", "class_name", "target_class", "n_images", "n_components", "seed",
    ]  # fmt: skip


def test_the_ranking_of_another_ranker_has_one_score_and_no_columns_of_ace() -> None:
    found = ChannelScores(
        {"mean_activation": np.array([-0.5, 2.0, 0.0, -0.1])}, np.array([False, False, True, False]),
        {"mean_activation": pd.DataFrame({"rank_low": [3.0, 1, np.nan, 2]})}, {"mean_activation": np.empty((0, 2))},
    )  # fmt: skip
    reads = rank.RankReads("mean_activation", "mean_activation", "m", "conv", "8", 8, 5, 1, 0)
    table = rank.run(reads, scores=found).table
    assert table.channel.tolist() == [1, 3, 0, 2]
    assert table.score.tolist() == [2.0, -0.1, -0.5, 0.0]
    assert table.columns.tolist()[:6] == ["rank", "channel", "score", "rank_low", "dead", "by"]


def test_channels_are_ranked_by_the_selected_statistic() -> None:
    found = scores([0.9, 0.1], first=[0.2, 0.8])
    assert ranked(found, "maximal").table.channel.tolist() == [0, 1]
    by_first = ranked(found, "first").table
    assert by_first.channel.tolist() == [1, 0]
    assert by_first.score.tolist() == by_first.score_first.tolist() == [0.8, 0.2]


@pytest.mark.parametrize(
    ("by", "order"), [("cross_fitted", [1, 2, 0, 3]), ("excess", [2, 0, 1, 3]), ("q_value", [0, 2, 1, 3])]
)
def test_channels_can_be_ranked_by_evidence_with_dead_channels_last(by: str, order: list[int]) -> None:
    evidence = {
        "cross_fitted": [0.1, 0.5, 0.3, np.nan],
        "excess": [2.0, -1.0, 3.0, np.nan],
        "q_value": [0.02, 0.9, 0.04, np.nan],
    }  # fmt: skip
    table = ranked(scores([0.5, 0.6, 0.7, 0.0], dead=[False, False, False, True], evidence=evidence), by).table
    assert table.channel.tolist() == order
    assert table.score.tolist()[:3] == [evidence["excess" if by == "q_value" else by][channel] for channel in order[:3]]
    assert table.score.tolist()[3] == 0
    assert table.columns.tolist()[5:8] == list(evidence)


@pytest.mark.parametrize(
    ("overrides", "by", "statistic"),
    [
        ([], "penalised", "penalised"),
        (["score.smoother=supersmoother"], "maximal", "maximal"),
        (["score.statistic=maximal"], "maximal", "maximal"),
        (["rank.by=first"], "first", "first"),
        (["score.statistic=first", "rank.by=penalised"], "penalised", "penalised"),
        (["score.statistic=first", "rank.by=excess"], "excess", "first"),
        (["rank.by=q_value"], "q_value", "penalised"),
        (["score=pearson"], "pearson", "pearson"),
    ],
)
def test_the_evidence_is_that_of_the_statistic_that_channels_are_ranked_by(
    overrides: list[str], by: str, statistic: str
) -> None:
    reads = rank.select(compose_settings(overrides))
    assert (reads.by, reads.statistic) == (by, statistic)


def test_trust_is_said_in_words() -> None:
    evidence = {"q_value": [0.01, 0.2]}
    low = ranked(scores([0.5, 0.6], evidence=evidence, curve=[(2, 0.25)]))
    assert low.trust.is_low
    assert low.sentences == [
        "This ranking is not reliable: its split-half reliability is .40 with 5 images; about 70 images would bring it "
        "to .9.",
        ACCURACY.format(".63"),
        "1 of 2 channels score above the permutation null (q < .05).",
    ]
    high = ranked(scores([0.5, 0.6], curve=[(2, 0.9)]))
    assert not high.trust.is_low
    assert high.sentences == [
        "The ranking's split-half reliability is .95 with 5 images.",
        ACCURACY.format(".97"),
    ]
    assert ranked(scores([0.5, 0.6], curve=[(2, -0.5)])).sentences == [
        "This ranking is not reliable: its split-half reliability is -.50 with 5 images; far more images would bring "
        "it to .9.",
        ACCURACY.format(".00"),
    ]
    assert ranked(scores([0.5, 0.6])).sentences == []


def test_the_reliability_of_a_ranking_by_evidence_names_the_statistic_of_the_halves() -> None:
    found = ranked(scores([0.5, 0.6], evidence={"cross_fitted": [0.1, 0.2]}, curve=[(2, 0.9)]), "cross_fitted")
    assert found.sentences == ["The ranking's split-half reliability (of the ranking by maximal) is .95 with 5 images."]
    assert ranked(scores([0.5, 0.6], curve=[(2, 0.9)]), "first").trust.stands_for is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True), st.randoms(use_true_random=False))
def test_permuting_the_channels_permutes_the_ranking(values: list[float], random: Random) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    straight = ranked(scores(values)).table.channel.tolist()
    permuted = ranked(scores([values[channel] for channel in order])).table.channel.tolist()
    assert [order[channel] for channel in permuted] == straight


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            0.0,
            "The contributions sum to the change of the class score; they differ by less than 0.01 % of that change.",
        ),
        (0.00312, "The contributions sum to the change of the class score; they differ by 0.31 % of that change."),
        (
            0.123,
            "The contributions do not sum to the change of the class score: they differ by 12 % of that change. "
            "A larger score.n_steps would bring them closer.",
        ),
    ],
)
def test_the_error_of_complete_contributions_is_stated(error: float, sentence: str) -> None:
    found = ranked(replace(scores([0.5, 0.6]), completeness_error=error))
    assert found.sentences == [sentence]
    assert found.trust.completeness_error == error
