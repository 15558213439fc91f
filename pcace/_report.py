"""The report of a ranking in memory: the page of a run of the pipeline, without what needs the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.figures.attempts import Attempts
from pipeline.figures.catalogue import FigureData, figures_of
from pipeline.figures.gallery import gallery
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.figures.report_page import ReportContent, render_report
from pipeline.figures.style import paper_style, render_png


def report_page(ranked: RankedLayer, notes: Sequence[str]) -> str:
    """Return the page.

    Parameters
    ----------
    ranked : RankedLayer
        The ranking.
    notes : sequence of str
        Sentences that are shown above the ranking.
    """
    attempts = Attempts()
    data = FigureData(ranked, None, None)
    with TemporaryDirectory() as folder, paper_style():
        figures = []
        for entry in figures_of(data):
            png = attempts.result(
                f"figure {entry.name} could not be drawn",
                lambda entry=entry: render_png(entry.draw(data), ranked.visualize.dpi),  # type: ignore[misc]
            )
            if png is not None:
                figures.append(Path(folder) / f"{entry.name}.png")
                figures[-1].write_bytes(png)
        return render_report(
            ReportContent(
                table=ranked.ranking.table,
                gallery=gallery(ranked, None),
                figures=figures,
                notes=[*notes, *attempts.notes],
                settings={},
                environment={},
                stages=[],
                command="",
                trust=ranked.ranking.trust,
            )
        )
