from __future__ import annotations

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from pipeline.artifacts import NetworkRanking, NetworkSummary
from pipeline.console import print_sweep
from pipeline.records import Record
from pipeline.sweep import Job, gather, lines, side_by_side, summary, with_first
from tests.helpers.rankings import ranking

STAGES = ("download", "activate", "reduce", "score", "rank", "ablate", "evaluate", "visualize")


def job(number: int, overrides: list[str], table: pd.DataFrame | None, *, cached: bool = False) -> Job:
    stages = STAGES if table is not None else STAGES[:1]  # the job failed in the first stage
    seconds = dict.fromkeys(stages, 0.5)
    from_store = {stage: cached and stage != "visualize" for stage in stages}
    record = Record("failed" if table is None else "finished", "an error.", overrides, seconds, from_store)
    record.reliability, record.faithfulness = (None, None) if table is None else (0.8, 0.25)
    return Job(Path(str(number)), " ".join(overrides), record, table)


RISING = [0.1, 0.2, 0.3, 0.4, 0.5]


def test_rankings_are_compared_with_the_first_one_of_the_same_channels() -> None:
    jobs = [
        job(0, ["x=0"], None),
        job(1, ["x=1"], ranking(RISING)),
        job(2, ["x=2"], ranking(RISING[::-1])),
        job(3, ["x=3"], ranking(RISING, layer="conv2")),
        job(4, ["x=4"], ranking(RISING, model="other")),
        job(5, ["x=5"], ranking([*RISING, 0.6])),
        job(6, ["x=6"], ranking([0.2, 0.1, 0.3, 0.4, 0.5])),
    ]
    # The first ranking of each layer has a correlation of 1 with itself; 0.9 is 1 - 6 * 2 / (5 * 24).
    assert with_first(jobs)[0] is None
    assert with_first(jobs)[1:] == pytest.approx([1.0, -1.0, 1.0, 1.0, 1.0, 0.9])


def test_channels_that_are_dead_in_one_of_the_rankings_are_left_out() -> None:
    first = ranking([0.0, 0.2, 0.3, 0.4, 0.5], dead=(0,))
    other = ranking([0.9, 0.3, 0.2, 0.1, 0.0], dead=(4,))
    assert with_first([job(0, [], first), job(1, [], other)]) == pytest.approx([1.0, -1.0])


def test_too_few_channels_or_equal_scores_have_no_correlation() -> None:
    few = ranking([0.1, 0.2, 0.0, 0.0, 0.0], dead=(2, 3, 4))
    equal = ranking([0.3] * 5)
    assert with_first([job(0, [], ranking(RISING)), job(1, [], few), job(2, [], equal)])[1:] == [None, None]


def test_the_summary_has_no_run_time_of_scores_from_the_store() -> None:
    jobs = [job(0, ["x=0"], ranking(RISING)), job(1, ["x=1"], ranking(RISING), cached=True), job(2, ["x=2"], None)]
    table = summary(jobs)
    columns = ["reliability", "faithfulness", "with_first", "score_seconds"]
    assert table[columns].iloc[0].tolist() == pytest.approx([0.8, 0.25, 1.0, 0.5])
    assert pd.isna(table.score_seconds[1])
    assert table[columns].iloc[2].isna().all()


@pytest.mark.parametrize(
    ("overrides", "setting", "places"),
    [
        (["n=1", "n=2", "n=10"], "n", [1, 2, 10]),
        (["n=2 seed=0", "n=2 seed=1", "n=4 seed=0"], "n", [2, 2, 4]),
        (["seed=5", "seed=6", "seed=7"], "seed", [5, 6, 7]),
        (["n=1 m=1", "n=2 m=1", "n=2 m=2"], "", [0, 1, 2]),
        (["by=first", "by=excess", "by=maximal"], "", [0, 1, 2]),
        (["n=1", "n=2", ""], "", [0, 1, 2]),
    ],
)
def test_jobs_are_ordered_by_the_only_setting_that_differs(
    overrides: list[str], setting: str, places: list[int]
) -> None:
    jobs = [job(number, text.split(), ranking(RISING)) for number, text in enumerate(overrides)]
    (line,), found = lines(jobs)
    assert (found, line.places, line.name, line.n_channels) == (setting, places, "conv3", 5)
    assert line.with_first == pytest.approx([1, 1, 1])


def test_every_layer_with_several_rankings_has_a_line() -> None:
    layers = ("conv1", "conv1", "conv2", "conv2", "conv3")
    jobs = [
        job(number, [f"layer={layer}", f"n={number % 2}"], ranking(RISING, layer))
        for number, layer in enumerate(layers)
    ]
    found, setting = lines(jobs)
    assert ([line.name for line in found], setting) == (["conv1", "conv2"], "n")
    assert lines(jobs[4:]) == ([], "")


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (130, "job question best channels best median reliability faithfulness with first score s total s from store"),
        (105, "job question best channels best reliability faithfulness with first score s total s"),
        (80, "job question best reliability faithfulness with first total s"),
    ],
)
def test_optional_columns_are_left_out_on_a_narrow_terminal(width: int, headings: str) -> None:
    jobs = [job(number, [f"model.randomized={number}"], ranking([*RISING] * 20)) for number in (0, 19)]
    screen = StringIO()
    print_sweep(summary(jobs), Path("there"), ["summary.csv"], Console(file=screen, width=width))
    found = screen.getvalue().splitlines()
    assert " ".join(found[1].split()) == headings
    assert max(map(len, found)) <= width
    assert found[-1] == "Sweep    there (summary.csv)"


def test_empty_columns_are_left_out() -> None:
    table = summary([job(0, ["n=1"], ranking(RISING), cached=True), job(1, ["n=2"], None)])
    screen = StringIO()
    table = table.assign(reliability=None, faithfulness=None)
    print_sweep(table, Path("there"), ["summary.csv"], Console(file=screen, width=120))
    headings = " ".join(screen.getvalue().splitlines()[1].split())
    assert headings == "job question best channels best median with first total s from store"


def test_jobs_that_rank_several_layers_are_compared_by_layer_and_channel(tmp_path: Path) -> None:
    channels = pd.DataFrame(
        {
            "rank": [1, 2, 3, 4],
            "layer": ["conv1", "conv2", "conv2", "conv1"],
            "channel": [3, 0, 1, 2],
            "score": [0.9, 0.8, 0.7, 0.6],
            "bias_corrected": [0.8, 0.7, 0.6, None],
            "dead": [False, False, False, True],
        }
    )
    layers = pd.DataFrame({"layer": ["conv1", "conv2"], "n_significant": pd.array([1, 2], dtype="Int64")})
    reasons = pd.DataFrame({"layer": ["relu"], "reason": ["2 calls"]})
    said = NetworkSummary("net", "class cat", "conv*", 30, "bias_corrected", "penalised", ("conv1 matters most.",))
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        order = channels if number == 0 else channels.iloc[[1, 0, 2, 3]].assign(rank=[1, 2, 3, 4], bias_corrected=0.5)
        NetworkRanking(order, layers, reasons, said).save(folder)
        Record("finished", overrides=[f"class_name={number}"]).save(folder)
    jobs = gather(tmp_path)
    table = summary(jobs)
    assert table.top_channels.tolist() == ["conv1:3 conv2:0 conv2:1 conv1:2", "conv2:0 conv1:3 conv2:1 conv1:2"]
    assert table.best_score.tolist() == [0.8, 0.5]
    assert table.n_channels.tolist() == [4, 4]
    assert with_first(jobs)[0] == 1.0
    assert side_by_side(jobs).iloc[0].tolist() == [1, "conv1:3", "conv2:0"]
