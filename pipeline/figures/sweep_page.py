"""The page of a sweep: its jobs with links to their reports, the figures of the summary, and the best channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import listed
from pipeline.figures.report_page import embedded, template

N_BEST = 10  # ranks that the page shows; rankings.csv has all of them
# Column of the summary, heading, description, and format of the cells.
MEASURED = (
    ("best_score", "best", "Score of the best channel.", "{:.4f}"),
    ("median_score", "median", "Median score of the channels that vary.", "{:.4f}"),
    ("reliability", "reliability", "Split-half reliability of the ranking; at least .7 is reliable.", "{:.2f}"),
    ("faithfulness", "faithfulness", "Spearman correlation of the scores with the effects of ablation.", "{:.2f}"),
    ("with_first", "with first",
     "Spearman correlation with the ranking of the first job that ranked the same channels.", "{:.2f}"),
    ("n_channels", "channels", "Number of channels.", "{:.0f}"),
)  # fmt: skip
TOP = "Indices of the channels with the largest scores, the best first."


@dataclass(frozen=True)
class SweepContent:
    """Content of the page.

    Attributes
    ----------
    name : str
        Name of the sweep, such as the time of its start.
    summary : DataFrame
        Result of `pipeline.sweep.summary`.
    settings : sequence of mapping of str to str
        The settings of each job that not all jobs have in common, by name.
    rankings : DataFrame
        Result of `pipeline.sweep.side_by_side`.
    figures : sequence of (Path, str)
        PNG files, each with its caption.
    addresses : mapping of int to str
        Relative address of the report of each job, by the number of the job.
    command : str
        Command that repeats the sweep; empty if it is not known.
    """

    name: str
    summary: pd.DataFrame
    settings: Sequence[Mapping[str, str]]
    rankings: pd.DataFrame
    figures: Sequence[tuple[Path, str]]
    addresses: Mapping[int, str]
    command: str = ""


def render_sweep(content: SweepContent) -> str:
    """Return the page."""
    table = content.summary
    finished = table[table.status == "finished"]
    names = list(dict.fromkeys(name for each in content.settings for name in each))
    shown = [(key, *rest) for key, *rest in MEASURED if table[key].notna().any()]
    facts = [("jobs", str(len(table))), ("finished", f"{len(finished)} of {len(table)}")]
    if finished.reliability.notna().any():
        facts.append(("reliability", _span(finished.reliability)))
    return template("sweep.html.j2").render(
        title=f"Sweep over {listed(names)}" if names else f"Sweep {content.name}",
        subtitle=f"{content.name}, {len(table)} job{'s' * (len(table) != 1)}",
        facts=facts,
        failed=[
            (row["job"], str(row["error"]).splitlines()[0] if row["error"] else "it has not ended.")
            for row in table[table.status != "finished"].to_dict("records")
        ],
        columns=[
            _column("job", "job", "Number of the job in the sweep.", is_sorted=True),
            *(
                _column(f"setting {name}", name, "", is_text=not _is_numeric(content, name), is_sorted=True)
                for name in names
            ),
            *([_column("top_channels", "best channels", TOP, is_text=True)] if len(finished) else []),
            *(_column(key, label, about, is_sorted=True) for key, label, about, _ in shown),
        ],
        rows=[
            {
                "address": content.addresses.get(int(row["job"]), ""),
                "cells": [
                    {"text": str(row["job"]), "value": row["job"], "is_text": False},
                    *(_setting(content, place, name) for name in names),
                    *([{"text": row["top_channels"] or "–", "value": "", "is_text": True}] if len(finished) else []),
                    *(_cell(row[key], text) for key, _, _, text in shown),
                ],
            }
            for place, row in enumerate(table.to_dict("records"))
        ],
        figures=[{"src": embedded(path), "caption": caption} for path, caption in content.figures],
        best=_best(content.rankings),
        command=content.command,
    )


def _column(key: str, label: str, about: str, *, is_text: bool = False, is_sorted: bool = False) -> dict[str, Any]:
    return {"key": key, "label": label, "about": about, "is_text": is_text, "is_sorted": is_sorted}


def _cell(value: Any, text: str) -> dict[str, Any]:
    if value is None or pd.isna(value):
        return {"text": "–", "value": "", "is_text": False}
    return {"text": text.format(value).replace("-", "−"), "value": value, "is_text": False}


def _setting(content: SweepContent, place: int, name: str) -> dict[str, Any]:
    """Return the cell of a setting, sorted by its number, or by the order of the values in the sweep."""
    value = content.settings[place].get(name, "")
    values = list(dict.fromkeys(each.get(name, "") for each in content.settings))
    is_numeric = _is_numeric(content, name)
    return {"text": value or "–", "value": value if is_numeric else values.index(value), "is_text": not is_numeric}


def _is_numeric(content: SweepContent, name: str) -> bool:
    try:
        return all(math.isfinite(float(each[name])) for each in content.settings if name in each)
    except ValueError:
        return False


def _span(values: pd.Series) -> str:
    low, high = f"{values.min():.2f}", f"{values.max():.2f}"
    return low if low == high else f"{low} to {high}".replace("-", "−")


def _best(rankings: pd.DataFrame) -> dict[str, Any] | None:
    """Return the first rows of the rankings side by side, or None if no job has finished."""
    table = rankings.drop(columns="rank").head(N_BEST)
    if table.empty:
        return None
    cells = table.astype(object).where(table.notna(), "–")
    return {"headings": [str(name) for name in table.columns], "rows": cells.to_numpy().tolist()}
