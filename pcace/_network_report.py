"""The page of a network in memory, with the reports of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from pcace._progress import shown_progress
from pcace._ranking import Ranking
from pcace._report import shown_settings
from pipeline.artifacts import NetworkRanking
from pipeline.figures.attempts import Attempts
from pipeline.figures.gallery import gallery
from pipeline.figures.network_channels import N_BEST, PicturedChannel, pictured
from pipeline.figures.network_page import NetworkContent, render_network, with_reports
from pipeline.files import write_whole
from pipeline.network_report import write_figures

SUFFIX = "_layers"  # of the name of the folder with the reports of the layers


def best_channels(
    tables: NetworkRanking, rankings: Mapping[str, Ranking], n_channels: int = N_BEST
) -> list[PicturedChannel]:
    """Return the best channels of the network with their pictures."""
    shown = tables.channels[~tables.channels.dead].head(n_channels)
    galleries = {layer: gallery(rankings[layer]._ranked, None) for layer in dict.fromkeys(shown.layer)}
    return pictured(tables, galleries, n_channels)


def write_pages(
    path: Path, tables: NetworkRanking, rankings: Mapping[str, Ranking], figures: Path | None = None
) -> dict[str, Path]:
    """Write the page of the network, and the report of each layer into a folder beside it.

    Parameters
    ----------
    path : Path
        File of the page. The folder has its name without the suffix, followed by ``_layers``.
    tables : pipeline.artifacts.NetworkRanking
        The tables.
    rankings : mapping of str to Ranking
        The rankings of the layers.
    figures : Path, optional
        Folder for the figures of the network at full size, if they are needed besides the page.

    Returns
    -------
    dict of str to Path
        The report of each layer.
    """
    folder = path.parent / f"{path.stem}{SUFFIX}"
    reports = {layer: folder / f"{layer.replace('/', '_')}.html" for layer in rankings}
    for ranking in rankings.values():
        _ = ranking._views  # computed first, because this shows its own progress
    with shown_progress(is_shown=True) as show:
        progress = show("report")
        for done, (layer, ranking) in enumerate(rankings.items()):
            progress(done, len(rankings))
            write_whole(reports[layer], ranking._page(network=f"../{quote(path.name)}"))
    addresses = {layer: address(path, report) for layer, report in reports.items()}
    with TemporaryDirectory() as temporary:
        write_whole(path, _page(tables, rankings, addresses, figures or Path(temporary)))
    return reports


def address(page: Path, report: Path) -> str:
    """Return the relative address of the report of a layer from the page of the network."""
    return quote(report.relative_to(page.parent).as_posix())


def whole_page(page: Path, reports: Mapping[str, Path]) -> str:
    """Return a page that `write_pages` has written, with the reports of the layers in it."""
    found = {address(page, report): report.read_text(encoding="utf-8") for report in reports.values()}
    return with_reports(page.read_text(encoding="utf-8"), found)


def _page(tables: NetworkRanking, rankings: Mapping[str, Ranking], addresses: Mapping[str, str], folder: Path) -> str:
    first = next(iter(rankings.values()))
    attempts = Attempts()
    best = attempts.result("pictures of the best channels could not be drawn", lambda: best_channels(tables, rankings))
    return render_network(
        NetworkContent(
            ranking=tables,
            figures=write_figures(tables, best or [], first.settings.visualize.dpi, folder, attempts),
            best=best or [],
            reports=addresses,
            settings={"layer": tables.summary.layer, **shown_settings(first.settings)},
            environment=first.versions,
            command="",
            notes=attempts.notes,
        )
    )
