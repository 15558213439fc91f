"""What the terminal shows of a ranking of several layers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich.table import Table

from pipeline.artifacts import NetworkRanking
from pipeline.observer import RunResult

N_CHANNELS = 10
N_REASONS = 10
N_NAME = 34  # width of the names of layers in the lines during the run

LAYER_COLUMNS = (  # heading, column, format
    ("layer", "layer", "{}"),
    ("type", "kind", "{}"),
    ("channels", "n_channels", "{:,}"),
    ("maps", "maps", "{}"),
    ("variance", "variance", "{:.0%}"),
    ("q < .05", "n_significant", "{:.0f}"),
    ("median", "median", "{:.2f}"),
    ("reliability", "reliability", "{:.2f}"),
    ("as a whole, 95 %", "whole", "{}"),
    ("best channels", "best_channels", "{}"),
)
CHANNEL_COLUMNS = (
    ("rank", "rank", "{}"),
    ("layer", "layer", "{}"),
    ("channel", "channel", "{}"),
    ("rank in layer", "rank_in_layer", "{}"),
    ("score", "score", "{:#.4g}"),
    ("bias-corrected, 95 %", "interval", "{}"),
    ("cross-fitted", "cross_fitted", "{:.2f}"),
    ("q", "q", "{:.3f}"),
)
TEXTS = ("layer", "type", "best channels")  # headings of the columns that are not numbers
LESS_IMPORTANT = ("type", "maps", "best channels")  # headings, in the order in which they are left out
GAP = 2


def layer_line(result: RunResult) -> str:
    """Return the line on one layer during the run."""
    ranking = result.ranking
    table, trust = ranking.table, ranking.trust
    words = [f"{len(table)} channels"]
    if trust.n_significant is not None:
        words.append(f"{trust.n_significant} above the null")
    if trust.reliability is not None:
        words.append(f"reliability {trust.reliability:.2f}")
    words.append(f"best {table.channel.iloc[0]} ({table.score.iloc[0]:.2f})")
    seconds = sum(report.seconds for report in result.reports)
    time = "from the store" if all(report.is_cached for report in result.reports) else f"{seconds:.1f} s"
    return f"  {result.settings.layer:<{N_NAME}} {', '.join(words):<64} {time:>14}"


def layers_table(ranking: NetworkRanking, width: int) -> Table:
    """Return the table of the layers, in the order of execution; empty columns are left out.

    So are some columns, such as the types of the layers, if the table has more than `width` characters.
    """
    layers = ranking.layers.assign(
        maps=[f"{row['height']} x {row['width']}" for row in ranking.layers.to_dict("records")],
        whole=_intervals(ranking.layers, "association", "association_low", "association_high"),
    )
    return _table(layers, LAYER_COLUMNS, width)


def channels_table(ranking: NetworkRanking, width: int) -> Table:
    """Return the table of the best channels of the network."""
    best = ranking.channels.head(N_CHANNELS)
    return _table(best.assign(interval=_intervals(best, "bias_corrected", "low", "high")), CHANNEL_COLUMNS, width)


def _intervals(rows: pd.DataFrame, value: str, low: str, high: str) -> list[str]:
    """Return values with their intervals; empty where there is no interval."""
    return [
        "" if pd.isna(row[low]) else f"{row[value]:.2f}, {row[low]:.2f} to {row[high]:.2f}"
        for row in rows.to_dict("records")
    ]


def not_ranked_lines(ranking: NetworkRanking) -> Iterator[str]:
    """Yield a line for each layer that was not ranked, up to a number."""
    rows = ranking.not_ranked
    if not len(rows):
        return
    yield f"Not ranked: {len(rows)} layer{'s' * (len(rows) != 1)}"
    for row in rows.head(N_REASONS).to_dict("records"):
        yield f"  {row['layer']:<{N_NAME}} {row['reason']}"
    if len(rows) > N_REASONS:
        yield f"  and {len(rows) - N_REASONS} more, see {NetworkRanking.NOT_RANKED_CSV}"


def _table(rows: pd.DataFrame, columns: tuple[tuple[str, str, str], ...], width: int) -> Table:
    """Return a table whose cells are complete; columns that are less important are left out if they do not fit."""
    cells = {
        heading: ["" if pd.isna(value) else text.format(value) for value in rows[name]]
        for heading, name, text in columns
        if not (rows[name].isna() | (rows[name] == "")).all()
    }
    longest = {name: max(map(len, [name, *texts])) + GAP for name, texts in cells.items()}
    for heading in LESS_IMPORTANT:
        if heading in cells and sum(longest.values()) - GAP > width:
            del cells[heading], longest[heading]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for name in cells:
        table.add_column(name, no_wrap=True, justify="left" if name in TEXTS else "right")
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    return table
