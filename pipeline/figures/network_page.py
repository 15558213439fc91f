"""The page of a whole network: its layers, its best channels, and links to the report of each layer."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from pipeline.artifacts import NetworkRanking, Trust
from pipeline.figures.network import SIGNIFICANT
from pipeline.figures.network_channels import PicturedChannel
from pipeline.figures.report_page import embedded, template
from pipeline.network_answer import LABELS

CARD_QUALITY = 70  # of the pictures of the best channels, as WebP
# Key of the column, heading, description, and format of the cells of the table of layers. Narrow screens show only the
# first ones without scrolling.
COLUMNS = (
    ("position", "no.", "Place in the order of execution, starting at 0.", "{:.0f}"),
    ("layer", "layer", "Name of the layer; the link opens its report.", "{}"),
    ("association", "association",
     "Cross-fitted correlation of the whole layer with the score, near 0 without any association.", "{:.3f}"),
    ("n_significant", "stand out", "Number of channels with q < .05, where q is over all channels of the network.",
     "{:.0f}"),
    ("share_significant", "share", "Share of the channels of the layer that stand out.", "{:.0%}"),
    ("reliability", "reliability",
     "Split-half reliability of the order of the channels in the layer; at least .7 is reliable.", "{:.2f}"),
    ("best_score", "best", "Score of the best channel, of the kind that the network is ranked by.", "{:.3f}"),
    ("median", "median", "Median of these scores over the channels that vary.", "{:.3f}"),
    ("best_channels", "best channels", "Indices of the channels with the largest scores, the best first.", "{}"),
    ("n_channels", "channels", "Number of channels.", "{:.0f}"),
    ("size", "map size", "Height and width of the activation maps in pixels.", "{}"),
    ("variance", "variance", "Share of the maps' variance that the principal components hold.", "{:.0%}"),
    ("kind", "kind", "Class of the module.", "{}"),
)  # fmt: skip
TEXTS = ("layer", "kind", "size", "best_channels")


@dataclass(frozen=True)
class NetworkContent:
    """Content of the page.

    Attributes
    ----------
    ranking : NetworkRanking
        The channels and the layers. Its first sentence is the answer, the others qualify it.
    figures : sequence of (Path, str)
        PNG files, each with its caption.
    best : sequence of PicturedChannel
        The best channels, the best first.
    reports : mapping of str to str
        Relative address of the report of each layer, by layer.
    settings, environment : mapping of str to value
        Settings, under dotted names, and versions of the software.
    command : str
        Command that repeats the run.
    notes : sequence of str
        Further messages.
    """

    ranking: NetworkRanking
    figures: Sequence[tuple[Path, str]]
    best: Sequence[PicturedChannel]
    reports: Mapping[str, str]
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    command: str
    notes: Sequence[str] = field(default_factory=tuple)


def render_network(content: NetworkContent) -> str:
    """Return the page."""
    ranking, summary = content.ranking, content.ranking.summary
    layers, channels = ranking.layers, ranking.channels
    return template("network.html.j2").render(
        title=f"Which layers and channels of {summary.model} matter for {summary.target}?",
        subtitle=f"{ranking.description}, {summary.n_images:,} images",
        answer=summary.sentences[0],
        qualifications=summary.sentences[1:],
        facts=_facts(ranking),
        notes=content.notes,
        columns=[
            {"key": key, "label": label, "about": about, "is_text": key in TEXTS, "is_sorted": key != "best_channels"}
            for key, label, about, _ in _columns(layers)
        ],
        rows=_rows(ranking, content.reports),
        not_ranked=ranking.not_ranked.to_dict("records"),
        kept=_kept(layers),
        has_q=bool(channels.q.notna().any()),
        by=summary.by,
        score_label=LABELS[summary.by],
        has_halves=bool(channels.low.notna().any()) and summary.by == "bias_corrected",
        has_association=bool(layers.association.notna().any()),
        best=[
            {
                "rank": each.rank,
                "layer": each.layer,
                "channel": each.channel,
                "measured": each.measured,
                "image": each.image_name,
                "address": content.reports.get(each.layer, ""),
                "src": _webp(each),
            }
            for each in content.best
        ],
        figures=[{"src": embedded(path), "caption": caption} for path, caption in content.figures],
        command=content.command,
        settings=[
            (name, value if isinstance(value, str) else json.dumps(value)) for name, value in content.settings.items()
        ],
        environment=list(content.environment.items()),
    )


def report_address(folder: str) -> str:
    """Return the relative address of the report of a layer from the page of the network, by the name of its folder."""
    return f"layers/{quote(folder)}/report.html"


def with_reports(page: str, reports: Mapping[str, str]) -> str:
    """Return the page of a network with the reports of its layers in it, for places where it is without its folder.

    The page opens them in a frame. They are compressed, which makes those of ResNet-18 half as large.

    Parameters
    ----------
    page : str
        Result of `render_network`.
    reports : mapping of str to str
        The page of each layer, by its address in `NetworkContent.reports`.
    """
    data = {
        address: base64.b64encode(zlib.compress(report.encode(), 9)).decode() for address, report in reports.items()
    }
    text = json.dumps(data).replace("<", "\\u003c")
    start, end = page.rsplit("</footer>", 1)
    return f'{start}</footer>\n<script type="application/json" id="reports">{text}</script>{end}'


def _columns(layers: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Return the columns with values."""
    derived = {"size", "best_score"}
    return [each for each in COLUMNS if each[0] in derived or (each[0] in layers and layers[each[0]].notna().any())]


def _rows(ranking: NetworkRanking, reports: Mapping[str, str]) -> list[dict[str, Any]]:
    layers = ranking.layers.assign(
        size=[f"{row.height:.0f} × {row.width:.0f}" for row in ranking.layers.itertuples()],
        best_score=ranking.layers.layer.map(ranking.channels.groupby("layer")[ranking.summary.by].max()),
    )
    pixels = (layers.height * layers.width).tolist()
    order = {name: place for place, name in enumerate(layers.layer)}
    kinds = {name: place for place, name in enumerate(sorted(layers.kind.unique()))}
    rows = []
    for place, record in enumerate(layers.to_dict("records")):
        sorted_by = {"layer": order[record["layer"]], "kind": kinds[record["kind"]], "size": pixels[place]}
        cells = []
        for key, _, _, text in _columns(ranking.layers):
            value = record[key]
            is_missing = not isinstance(value, str) and pd.isna(value)
            cells.append(
                {
                    "key": key,
                    "text": "–" if is_missing else text.format(value).replace("-", "−") if key not in TEXTS else value,
                    "value": "" if is_missing else sorted_by.get(key, value),
                    "is_text": key in TEXTS,
                    "share": _share(key, value),
                    "is_low": key == "reliability" and not is_missing and value < Trust.ENOUGH,
                }
            )
        rows.append({"address": reports.get(record["layer"], ""), "cells": cells})
    return rows


def _share(key: str, value: Any) -> str:
    """Return the length of the bar behind a cell, from 0 to 1; empty for cells without a bar."""
    if key not in {"association", "share_significant"} or pd.isna(value):
        return ""
    return f"{min(max(float(value), 0.0), 1.0):.4f}"


def _facts(ranking: NetworkRanking) -> list[tuple[str, str]]:
    """Return the numbers at the head of the page, each with its name."""
    layers, channels = ranking.layers, ranking.channels
    facts = [("layers", f"{len(layers):,}"), ("channels", f"{len(channels):,}")]
    if channels.q.notna().any():
        facts.append(("channels with q < .05", f"{int((channels.q < SIGNIFICANT).sum()):,}"))
    if layers.reliability.notna().any():
        n_reliable = int((layers.reliability >= Trust.ENOUGH).sum())
        facts.append(("layers with a reliable order", f"{n_reliable} of {int(layers.reliability.notna().sum())}"))
    if layers.association.notna().any():
        best = layers.sort_values("association", ascending=False, kind="stable").iloc[0]
        facts.append(("largest association", f"{best.layer} ({best.association:.2f})"))
    first = channels.iloc[0]
    facts.append(("best channel", f"{first.channel} of {first.layer} ({first[ranking.summary.by]:.2f})"))
    return facts + ([("layers not ranked", str(len(ranking.not_ranked)))] if len(ranking.not_ranked) else [])


def _kept(layers: pd.DataFrame) -> str:
    """Return the range of the variance that the components hold, in words; empty if it is the same everywhere."""
    known = layers.variance.dropna()
    if not len(known) or f"{known.min():.0%}" == f"{known.max():.0%}":
        return ""
    return f"from {known.min():.0%} to {known.max():.0%}"


def _webp(each: PicturedChannel) -> str:
    buffer = BytesIO()
    each.card.convert("RGB").save(buffer, "WEBP", quality=CARD_QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
