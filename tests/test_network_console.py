from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.table import Table

from pipeline.network_console import channels_table, layers_table
from pipeline.text_tables import print_whole
from tests.helpers.network_rankings import network_ranking

LONG = "features.12.block.0._depthwise_separable_convolution"
LAYERS_HEADING = "layer channels variance q < .05 median as a whole, 95 %"
RANKING = network_ranking([[0.5, 0.2, 0.1], [0.7, 0.2]], names=[LONG, "head"], association=[0.31, 0.82])


def printed(table: Table, width: int) -> list[str]:
    screen = StringIO()
    print_whole(Console(file=screen, width=width, soft_wrap=True), table)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_a_table_that_fits_has_all_columns() -> None:
    heading, first, second = printed(layers_table(RANKING, 200), 200)
    assert [name for name in ("type", "maps", "best channels") if name not in heading] == []
    assert first.startswith(f"{LONG}  Conv2d         3  8 x 8       50%        1    0.20  0.31, 0.21 to 0.41  0 1 2")
    assert second.startswith(
        f"{'head':<{len(LONG)}}  Conv2d         2  8 x 8       60%        1    0.45  0.82, 0.72 to 0.92  0 1"
    )


def test_numbers_and_names_are_never_shortened_but_columns_are_left_out() -> None:
    heading, first, _ = printed(layers_table(RANKING, 60), 60)
    assert heading.split() == LAYERS_HEADING.split()
    assert first.split() == [LONG, "3", "50%", "1", "0.20", "0.31,", "0.21", "to", "0.41"]
    best = printed(channels_table(RANKING, 40), 40)[1]
    assert best.split()[:5] == ["1", "head", "0", "1", "0.8000"]
