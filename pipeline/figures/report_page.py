"""The report of one run: an HTML page in one file, which needs no network connection and no server.

All values are escaped by Jinja, and the data of the scripts is JSON in which ``<``, ``>`` and ``&`` are escaped, so
that names from users are shown as text and never interpreted as markup or code. The content security policy of the
page forbids it to load anything.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from pipeline.artifacts import Trust
from pipeline.figures.catalogue import FIGURES
from pipeline.figures.columns import (
    NULL_BAND,
    cell_text,
    is_by_statistic,
    is_correlation,
    score_label,
    score_text,
    shown_columns,
)  # fmt: skip

LARGE = 150_000  # bytes; larger figures are embedded as WebP, which takes a third of the size and looks the same
# In the report of one layer of a network, figures are reduced to this width in pixels, with this quality as WebP.
COMPACT_WIDTH, COMPACT_QUALITY = 720, 40
# Figures that are left out there: the first is the same for all layers, and the overlays show what the second shows.
LEFT_OUT = {"cam": "", "activation_maps": "activation_overlays"}


@dataclass(frozen=True)
class ReportContent:
    """Content of the report of a run.

    Attributes
    ----------
    table : DataFrame
        Table of the ranking. Columns that are not known are shown under their own names.
    gallery : mapping
        Result of `pipeline.figures.gallery.gallery`.
    figures : sequence of Path
        PNG files of figures in `pipeline.figures.catalogue.FIGURES`.
    notes : sequence of str
        Sentences that are shown above the ranking.
    settings, environment : mapping of str to value
        Settings, under dotted names, and versions of the software.
    stages : sequence of (name, seconds, is_cached, key)
        Stages in their order.
    command : str
        Command that repeats the run.
    trust : Trust
        Reliability of the ranking.
    network : str
        Relative address of the page of the network, if the report is one of those of its layers, which have smaller
        pictures; empty for the report of a single layer.
    target : str
        What the channels are ranked for, in words; by default, the class or the output in the table.
    has_folder : bool
        Whether the folder of the page contains the figures at full size.
    """

    table: pd.DataFrame
    gallery: Mapping[str, Any]
    figures: Sequence[Path]
    notes: Sequence[str]
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    stages: Sequence[tuple[str, float, bool, str]]
    command: str
    trust: Trust = field(default_factory=Trust)
    network: str = ""
    target: str = ""
    has_folder: bool = True


def render_report(content: ReportContent) -> str:
    """Return the page."""
    table, first = content.table, content.table.iloc[0]
    is_regression = pd.isna(first.target_class)
    class_name = first.class_name if isinstance(first.class_name, str) else f"number {first.target_class}"
    target = content.target or ("the output of the network" if is_regression else f"class {class_name}")
    kept = float(first.n_components)
    components = f"{kept:.0%} of the variance" if kept < 1 else f"{kept:.0f} component" + ("s" if kept > 1 else "")
    data = content.gallery
    if content.network:
        from pipeline.figures.gallery import compact  # imported here because it imports matplotlib

        data = compact(data)
    sheet = data["maps"]
    names = {path.stem for path in content.figures}
    left_out = {name for name, other in LEFT_OUT.items() if content.network and other in {"", *names}}
    return template("report.html.j2").render(
        title=f"Which channels of {first.layer} matter for {target}?",
        subtitle=f"{first.model}, {first.n_images} images, {components}, statistic {first.statistic}",
        facts=_facts(table, content.trust),
        notes=[f"{note[:1].upper()}{note[1:].removesuffix('.')}." for note in content.notes],
        curve=_curve(table),
        is_by_ace="r_squared" in table,
        score_name=score_label(table),
        columns=shown_columns(table),
        rows=_rows(table, sheet, is_compact=bool(content.network)),
        network=content.network,
        has_folder=content.has_folder,
        gallery=data,
        map_rows=-(-sheet["cells"] // sheet["columns"]),
        # The picture with all maps is already in the style sheet.
        data={**data, "maps": {key: value for key, value in sheet.items() if key != "src"}},
        figures=[
            {"src": embedded(path, is_compact=bool(content.network)), "caption": FIGURES[path.stem].caption}
            for path in content.figures
            if FIGURES[path.stem].in_report and path.stem not in left_out
        ],
        command=content.command,
        settings=[
            (name, value if isinstance(value, str) else json.dumps(value)) for name, value in content.settings.items()
        ],
        environment=list(content.environment.items()),
        stages=[
            {"name": name, "seconds": "from the store" if is_cached else f"{seconds:.1f}", "key": key}
            for name, seconds, is_cached, key in content.stages
        ],
    )


def template(name: str) -> jinja2.Template:
    """Return a template of this package. Values are escaped, and a missing value is an error."""
    loader = jinja2.PackageLoader("pipeline.figures")
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)


def embedded(path: Path, *, is_compact: bool = False) -> str:
    """Return a PNG file as a data URI; large files are converted to WebP, and with `is_compact` all files."""
    kind, data = "png", path.read_bytes()
    if is_compact or len(data) > LARGE:
        buffer = BytesIO()
        with Image.open(path) as image:
            picture = image.convert("RGB")
        if is_compact:
            picture.thumbnail((COMPACT_WIDTH, 10 * COMPACT_WIDTH), Image.Resampling.LANCZOS)
        picture.save(buffer, "WEBP", quality=COMPACT_QUALITY if is_compact else 80, method=6 if is_compact else 4)
        kind, data = "webp", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _facts(table: pd.DataFrame, trust: Trust) -> list[tuple[str, str]]:
    """Return the numbers at the head of the report, each with its name."""
    varying = table[~table.dead]
    best = table.iloc[0]
    facts = [
        ("best channel", f"{best.channel} ({score_text(best.score)})"),
        ("median score", score_text(varying.score.median()) if len(varying) else "–"),
    ]
    if trust.reliability is not None:
        facts.append(("reliability", f"{trust.reliability:.2f}"))
    if trust.accuracy is not None:
        facts.append(("estimated accuracy", f"{trust.accuracy:.2f}"))
    if trust.n_significant is not None:
        facts.append(("channels with q < .05", f"{trust.n_significant} of {len(varying)}"))
    facts.append(("channels", str(len(table))))
    return facts + ([("dead channels", str(int(table.dead.sum())))] if table.dead.any() else [])


def _rows(table: pd.DataFrame, sheet: Mapping[str, Any], *, is_compact: bool) -> list[dict[str, Any]]:
    """Return the rows of the table. With `is_compact`, numbers are sorted as they are shown, with four decimals."""
    columns = shown_columns(table)
    low, high = _limits(table)
    n_columns, n_rows = sheet["columns"], -(-sheet["cells"] // sheet["columns"])
    rows = []
    for place, record in enumerate(table.to_dict("records")):
        row, column = divmod(place, n_columns)
        values = [record[each.key] for each in columns]
        rows.append(
            {
                "channel": record["channel"],
                "map_x": f"{100 * column / max(n_columns - 1, 1):.4g}",
                "map_y": f"{100 * row / max(n_rows - 1, 1):.6g}",
                "cells": [
                    {
                        "text": cell_text(value),
                        "value": None if is_compact and _is_finite(value) else _sorted_by(value),
                        "share": f"{(record['score'] - low) / (high - low):.4f}",
                    }
                    for value in values
                ],
            }
        )
    return rows


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _sorted_by(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of the axis of the scores."""
    low, high = min(0.0, float(table.score.min())), float(table.score.max())
    if "high" in table and is_by_statistic(table):
        high = max(high, float(table.high.max()))
    return low, max(1.0, high) if is_correlation(table) else max(high, low + 1e-12)


def _curve(table: pd.DataFrame) -> dict[str, Any]:
    """Return the curve of the scores by rank, in the coordinates of the SVG drawing."""
    width, height, left, right, top, bottom = 832, 240, 44, 824, 8, 204
    n_channels = len(table)
    scores = table.score.to_numpy(dtype=float)
    low, high = _limits(table)

    def x(rank: float) -> float:
        return round(left + (right - left) * (rank - 0.5) / n_channels, 2)

    def y(score: float) -> float:
        return round(bottom - (bottom - top) * (score - low) / (high - low), 2)

    points = [
        {
            "x": x(row["rank"]), "y": y(row["score"]), "channel": row["channel"], "rank": row["rank"],
            "score": score_text(row["score"]), "dead": bool(row["dead"]),
        }
        for row in table.to_dict("records")
    ]  # fmt: skip
    step = max(1, round(n_channels / 8))
    best, varying = table.iloc[0], table[~table.dead]
    band, intervals = "", ""
    if "null_mean" in table and is_by_statistic(table):
        reach = NULL_BAND * varying.null_deviation
        upper = list(zip(varying["rank"], varying.null_mean + reach, strict=True))
        lower = list(zip(varying["rank"], varying.null_mean - reach, strict=True))
        band = " ".join(f"{x(rank)},{y(score)}" for rank, score in [*upper, *reversed(lower)])
    if "low" in table and is_by_statistic(table):
        intervals = "".join(
            f"M{x(rank)} {y(low_end)}V{y(high_end)}"
            for rank, low_end, high_end in zip(varying["rank"], varying.low, varying.high, strict=True)
        )
    return {
        "width": width, "height": height, "left": left, "right": right, "bottom": bottom,
        "radius": 4 if n_channels <= 80 else 2.5,
        "line": " ".join(f"{point['x']},{point['y']}" for point in points if not point["dead"]),
        "points": points,
        "band": band,
        "intervals": intervals,
        "x_ticks": [{"at": x(rank), "text": rank} for rank in sorted({1, *range(step, n_channels + 1, step)})],
        "y_ticks": [{"at": y(value), "text": f"{value:.3g}"} for value in np.linspace(low, high, 6)],
        "label": f"Score by rank: from {score_text(best.score)} (channel {best.channel}) "
        f"down to {score_text(scores[-1])}, {n_channels} channels",
    }  # fmt: skip
