"""Observer that draws the figures of a whole network and writes its page into the folder of the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.artifacts import Figures, NetworkRanking
from pipeline.environment import environment, git_state
from pipeline.figures.attempts import Attempts
from pipeline.figures.network import draw_association, draw_channels, draw_layer_distributions
from pipeline.figures.network_channels import PicturedChannel, draw_best_channels, pictured
from pipeline.figures.network_page import NetworkContent, render_network, report_address
from pipeline.figures.style import paper_style, render_png
from pipeline.files import write_whole
from pipeline.observer import NetworkResult, Observer, RunResult
from pipeline.report_writer import flat
from pipeline.run_folder import FIGURES, NETWORK_PAGE
from pipeline.store import storage_errors

# Name of the file, caption, function that draws the figure, and when there is something to draw.
DRAWN: tuple[tuple[str, str, Callable[[NetworkRanking], Figure], Callable[[NetworkRanking], bool]], ...] = (
    (
        "network_channels",
        "Every channel at the score that the network is ranked by, one row per layer in the order of execution. "
        "Filled triangles stand out (q < .05); open circles do not.",
        draw_channels,
        lambda ranking: True,
    ),
    (
        "layer_distributions",
        "Distribution of the scores in each layer, split-half reliability of the order of its channels, and share of "
        "its channels that stand out.",
        draw_layer_distributions,
        lambda ranking: True,
    ),
    (
        "layer_association",
        "Association of each whole layer with the class score along the depth of the network, on images that were not "
        "used to fit it, with its 95 % interval.",
        draw_association,
        lambda ranking: bool(ranking.layers.association.notna().any()),
    ),
)
BEST = "best_channels"


class NetworkReportWriter(Observer):
    """Observer that writes ``network.html`` and the figures of a network when all layers have finished.

    It must come before the tracker among the observers, because the tracker logs the files.

    Parameters
    ----------
    command : str
        Command that repeats the run, shown on the page.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._notes: list[str] = []
        self._galleries: dict[str, dict[str, Any]] = {}

    def layer_finished(self, result: RunResult) -> None:
        """Keep the images and the maps of the layer, which can be read only now, for the best channels."""
        path = result.artifacts[Figures].folder / Figures.GALLERY
        data = json.loads(path.read_text(encoding="utf-8"))
        self._galleries[result.settings.layer] = {name: data[name] for name in ("images", "channels", "maps")}

    def network_finished(self, result: NetworkResult) -> None:
        """Draw the figures and write the page, each file as a whole or not at all."""
        with storage_errors("the network's report", result.run_dir):
            attempts = Attempts()
            found: list[PicturedChannel] | None = attempts.result(
                "pictures of the best channels could not be drawn", lambda: pictured(result.ranking, self._galleries)
            )
            folder = result.run_dir / FIGURES
            figures = write_figures(result.ranking, found or [], result.settings.visualize.dpi, folder, attempts)
            page = render_network(
                NetworkContent(
                    ranking=result.ranking,
                    figures=figures,
                    best=found or [],
                    reports={name: report_address(folder.name) for name, folder in result.folders.items()},
                    settings=flat(asdict(result.settings)),
                    environment={**git_state(), **environment()},
                    command=self._command,
                    notes=attempts.notes,
                )
            )
            write_whole(result.run_dir / NETWORK_PAGE, page)


def write_figures(
    ranking: NetworkRanking, best: Sequence[PicturedChannel], dpi: int, folder: Path, attempts: Attempts
) -> list[tuple[Path, str]]:
    """Draw the figures of the network, and return the files and captions of those that the page shows.

    Parameters
    ----------
    ranking : NetworkRanking
        The tables.
    best : sequence of PicturedChannel
        The best channels, which have a file and no place among the figures of the page, which shows them itself.
    dpi : int
        Resolution.
    folder : Path
        Folder of the files; it is created if it does not exist.
    attempts : Attempts
        Keeps the reasons why a figure could not be drawn.
    """
    folder.mkdir(exist_ok=True)
    drawn = []
    entries = [(name, caption, draw) for name, caption, draw, applies in DRAWN if applies(ranking)]
    with paper_style():
        for name, caption, draw in entries:
            png = attempts.result(
                f"figure {name} could not be drawn",
                lambda draw=draw: render_png(draw(ranking), dpi),  # type: ignore[misc]
            )
            if png is not None:
                (folder / f"{name}.png").write_bytes(png)
                drawn.append((folder / f"{name}.png", caption))
        if best:
            png = attempts.result(
                f"figure {BEST} could not be drawn", lambda: render_png(draw_best_channels(best, ranking), dpi)
            )
            if png is not None:
                (folder / f"{BEST}.png").write_bytes(png)
    return drawn
