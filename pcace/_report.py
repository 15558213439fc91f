"""The report of a ranking in memory: the page of a run of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pcace._settings import as_given
from pcace._views import Views
from pcace._wording import in_python
from pipeline.figures.attempts import Attempts
from pipeline.figures.catalogue import FigureData, figures_of
from pipeline.figures.gallery import gallery
from pipeline.figures.ranked_layer import RankedLayer
from pipeline.figures.report_page import ReportContent, render_report
from pipeline.figures.style import paper_style, render_png
from pipeline.settings import Settings


def report_page(
    ranked: RankedLayer,
    views: Views,
    settings: Settings,
    target: str,
    notes: Sequence[str],
    versions: Mapping[str, str],
    network: str = "",
) -> str:
    """Return the page.

    Parameters
    ----------
    ranked : RankedLayer
        The ranking.
    views : Views
        What figures show of the network itself.
    settings : Settings
        The settings of the ranking.
    target : str
        What the channels are ranked for, in words.
    notes : sequence of str
        Sentences that are shown above the ranking, before the notes of the figures.
    versions : mapping of str to str
        Versions of the software.
    network : str
        Relative address of the page of the network, if the page is that of one of its layers; its pictures are smaller.
    """
    attempts = Attempts()
    data = FigureData(ranked, views.activation, views.maximized)
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
                gallery=gallery(ranked, views.maximized),
                figures=figures,
                notes=[*notes, *map(in_python, views.notes), *attempts.notes],
                settings=shown_settings(settings),
                environment=versions,
                stages=[],
                command="",
                trust=ranked.ranking.trust,
                target=target,
                network=network,
                has_folder=False,
            )
        )


def shown_settings(settings: Settings) -> dict[str, str]:
    """Return the settings as they are given to `pcace.rank`, as text."""
    return {name: value if isinstance(value, str) else repr(value) for name, value in as_given(settings).items()}
