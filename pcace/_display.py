"""A ranking as text and as static HTML, which saved notebooks and code hosting sites show without scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import pandas as pd
from matplotlib.figure import Figure

from pipeline.artifacts import NetworkRanking
from pipeline.figures.columns import best_channels
from pipeline.figures.network import draw_association, draw_channels
from pipeline.figures.ranking import draw_ranking_curve
from pipeline.figures.style import paper_style, render_png

N_SHOWN = 10
DPI = 110


def as_text(table: pd.DataFrame, heading: str, sentences: Sequence[str]) -> str:
    """Return the heading, the sentences and the best channels as text."""
    best = best_channels(table, N_SHOWN)
    rows = [best.headings, *best.rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(best.headings))]
    lines = ["    ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([f"{heading}.", *sentences, "", *lines, best.total])


def as_html(table: pd.DataFrame, heading: str, sentences: Sequence[str], question: str, *, is_low: bool) -> str:
    """Return the heading, the sentences, the best channels and the curve of the scores as HTML without scripts.

    Parameters
    ----------
    table : DataFrame
        Table of the ranking.
    heading : str
        Heading.
    sentences : sequence of str
        Sentences on the reliability; the first is emphasised.
    question : str
        Network, layer and class, for the title of the curve.
    is_low : bool
        Whether the ranking is not reliable, which is shown in red.
    """
    best = best_channels(table, N_SHOWN)
    colour = ' style="color:#b00020"' if is_low else ""
    shown = [f"<strong{colour}>{escape(each)}</strong>" if not i else escape(each) for i, each in enumerate(sentences)]
    head = "".join(f"<th>{escape(each)}</th>" for each in best.headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in best.rows)
    return (
        f"<div><h4>{escape(heading)}</h4>{''.join(f'<p>{each}</p>' for each in shown)}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{escape(best.total)}</p>"
        f"{embedded_figure(table, question)}</div>"
    )


def embedded_figure(table: pd.DataFrame, question: str) -> str:
    """Return the curve of the scores as an image element."""
    with paper_style():
        return image(draw_ranking_curve(table, question), "Scores by rank")


def network_figure(ranking: NetworkRanking) -> str:
    """Return the association of the layers along the depth as an image element, or else every channel."""
    has_association = bool(ranking.layers.association.notna().any())
    draw = draw_association if has_association else draw_channels
    with paper_style():
        return image(draw(ranking), "Association of the layers" if has_association else "Channels of the layers")


def image(figure: Figure, description: str) -> str:
    """Return a figure as an image element that contains its data."""
    data = base64.b64encode(render_png(figure, DPI)).decode()
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{data}">'
