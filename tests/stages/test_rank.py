from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import ChannelScores, Ranking
from pipeline.stages import rank


def scores(maximal: list[float], first: list[float] | None = None, dead: list[bool] | None = None) -> ChannelScores:
    n = len(maximal)
    return ChannelScores(
        maximal=np.array(maximal),
        first=np.array(first if first is not None else maximal),
        r_squared=np.arange(n) / n,
        iterations=np.arange(n),
        dead=np.array(dead if dead is not None else [False] * n),
        phi=np.zeros((n, 5, 1)),
        theta=np.zeros((n, 5)),
    )


def ranked(found: ChannelScores, statistic: str = "maximal") -> Ranking:
    reads = rank.RankReads(statistic, "m", "conv", "8", 8, 5, 1, 0)  # type: ignore[arg-type]
    with TemporaryDirectory() as folder:
        return rank.run(reads, found, folder=Path(folder), progress=lambda done, total: None)


def test_largest_first_ties_by_index_dead_last() -> None:
    table = ranked(scores([0.2, 0.9, 0.0, 0.9, 0.0], dead=[False, False, True, False, False])).table
    assert table.channel.tolist() == [1, 3, 0, 4, 2]
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]
    assert table.dead.tolist() == [False, False, False, False, True]


def test_columns_are_what_people_look_for_in_this_order() -> None:
    columns = ranked(scores([0.1, 0.2])).table.columns.tolist()
    assert columns[:8] == [
        "rank", "channel", "score", "score_maximal", "score_first", "r_squared", "iterations", "dead",
    ]  # fmt: skip
    assert columns[8:] == [
        "statistic", "model", "layer", "class_name", "target_class", "n_images", "n_components", "seed",
    ]  # fmt: skip


def test_the_statistic_asked_for_decides() -> None:
    found = scores([0.9, 0.1], first=[0.2, 0.8])
    assert ranked(found, "maximal").table.channel.tolist() == [0, 1]
    by_first = ranked(found, "first").table
    assert by_first.channel.tolist() == [1, 0]
    assert by_first.score.tolist() == by_first.score_first.tolist() == [0.8, 0.2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True), st.randoms(use_true_random=False))
def test_a_permutation_of_the_channels_permutes_the_ranking(values: list[float], random) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    straight = ranked(scores(values)).table.channel.tolist()
    permuted = ranked(scores([values[channel] for channel in order])).table.channel.tolist()
    assert [order[channel] for channel in permuted] == straight
