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
from pipeline.figures.network_page import NetworkContent, render_network
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


def write_pages(path: Path, tables: NetworkRanking, rankings: Mapping[str, Ranking]) -> Path:
    """Write the page of the network, and the report of each layer into a folder beside it.

    Parameters
    ----------
    path : Path
        File of the page. The folder has its name without the suffix, followed by ``_layers``.
    tables : pipeline.artifacts.NetworkRanking
        The tables.
    rankings : mapping of str to Ranking
        The rankings of the layers.

    Returns
    -------
    Path
        The folder with the reports of the layers.
    """
    folder = path.parent / f"{path.stem}{SUFFIX}"
    files = {layer: f"{layer.replace('/', '_')}.html" for layer in rankings}
    for ranking in rankings.values():
        _ = ranking._views  # computed first, because this shows its own progress
    with shown_progress(is_shown=True) as show:
        progress = show("report")
        for done, (layer, ranking) in enumerate(rankings.items()):
            progress(done, len(rankings))
            write_whole(folder / files[layer], ranking._page(network=f"../{quote(path.name)}"))
    addresses = {layer: f"{quote(folder.name)}/{quote(name)}" for layer, name in files.items()}
    write_whole(path, _page(tables, rankings, addresses))
    return folder


def _page(tables: NetworkRanking, rankings: Mapping[str, Ranking], addresses: Mapping[str, str]) -> str:
    first = next(iter(rankings.values()))
    attempts = Attempts()
    best = attempts.result("pictures of the best channels could not be drawn", lambda: best_channels(tables, rankings))
    with TemporaryDirectory() as folder:
        figures = write_figures(tables, best or [], first.settings.visualize.dpi, Path(folder), attempts)
        return render_network(
            NetworkContent(
                ranking=tables,
                figures=figures,
                best=best or [],
                reports=addresses,
                settings={"layer": tables.summary.layer, **shown_settings(first.settings)},
                environment=first.versions,
                command="",
                notes=attempts.notes,
            )
        )
