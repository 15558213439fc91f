from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.progress import ticker


@pytest.mark.parametrize(
    ("n_steps", "total", "done"),
    [(4, 4, [1, 2, 3, 4]), (4, 8, [2, 4, 6, 8]), (5, 2, [0, 0, 1, 1, 2]), (1, 16, [16])],
)
def test_each_step_is_reported_as_its_share_of_the_total(n_steps: int, total: int, done: list[int]) -> None:
    reported: list[tuple[int, int]] = []
    tick = ticker(lambda *report: reported.append(report), n_steps, total)
    for _ in range(n_steps):
        tick()
    assert reported == [(each, total) for each in done]


def test_two_tickers_count_separately() -> None:
    reported: list[tuple[int, int]] = []
    for _ in range(2):
        ticker(lambda *report: reported.append(report), 2, 2)()
    assert reported == [(1, 2), (1, 2)]


def test_steps_of_several_threads_are_each_counted_once() -> None:
    reported: list[int] = []
    tick = ticker(lambda done, _total: reported.append(done), 1000, 1000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: tick(), range(1000)))
    assert sorted(reported) == list(range(1, 1001))
