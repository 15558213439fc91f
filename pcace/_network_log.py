"""The ranking of a network in memory in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pcace._network_report import whole_page, write_pages
from pcace._ranking import Ranking
from pipeline.artifacts import NetworkRanking
from pipeline.run_folder import FIGURES, NETWORK_PAGE, write_settings
from pipeline.tracking.live_network import LiveLayer, check_no_network, log_network


def log_network_in_memory(run_id: str, tables: NetworkRanking, rankings: Mapping[str, Ranking]) -> None:
    """Log a network to an MLflow run, and each layer to a new one; see `pcace.NetworkRanking.log`."""
    check_no_network(run_id)
    settings = replace(next(iter(rankings.values())).settings, layer=tables.summary.layer)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "network"
        folder.mkdir()
        page = Path(temporary) / NETWORK_PAGE
        reports = write_pages(page, tables, rankings, folder / FIGURES)
        (folder / NETWORK_PAGE).write_text(whole_page(page, reports), encoding="utf-8")
        tables.save(folder)
        write_settings(settings, folder)
        layers = {
            name: LiveLayer(ranking.settings, ranking._ranking, ranking.sentences, reports[name])
            for name, ranking in rankings.items()
        }
        log_network(run_id, tables, settings, layers, folder)
