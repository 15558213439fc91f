"""Comparison of logged rankings of whole networks: a page with a figure, and an MLflow run that contains both."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag
from mlflow.exceptions import MlflowException

from pipeline.artifacts import NetworkRanking
from pipeline.errors import StorageError
from pipeline.figures.network_comparison import draw_network_comparison
from pipeline.figures.report_page import embedded, template
from pipeline.figures.style import paper_style, save_png
from pipeline.network_comparison import NetworkComparison, compare_networks
from pipeline.store import storage_errors
from pipeline.tracking.comparison import DPI, PAGE, differing_settings, labelled

FIGURE, TABLE, TABLE_CSV = "networks.png", "layers.json", "layers.csv"
HEADINGS = {"association": "association", "share_significant": "stand out", "spearman": "Spearman with 1,"}


@dataclass(frozen=True)
class LoggedNetwork:
    """A finished run of a network, as it was logged.

    Attributes
    ----------
    run_id : str
        The run's id in MLflow.
    name : str
        The run's name in MLflow.
    params : dict of str to str
        The settings, by their dotted names.
    ranking : NetworkRanking
        The channels and the layers.
    """

    run_id: str
    name: str
    params: dict[str, str]
    ranking: NetworkRanking


def read_network(client: MlflowClient, run: Run) -> LoggedNetwork:
    """Return a finished run of a network; raise `StorageError` if its tables are missing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in (*(f"{table}.parquet" for table in NetworkRanking.TABLES), NetworkRanking.SUMMARY):
                client.download_artifacts(run.info.run_id, name, folder)
            ranking = NetworkRanking.load(Path(folder))
        except (MlflowException, OSError) as error:
            raise StorageError(
                f"every compared run must have the tables of its network; got run {run.info.run_id} without them "
                f"({str(error).splitlines()[0]}). Repeat the run."
            ) from error
    return LoggedNetwork(run.info.run_id, run.info.run_name, dict(run.data.params), ranking)


def compare_logged_networks(
    client: MlflowClient, experiment: str, folder: Path, chosen: Sequence[Run], sweep: str | None = None
) -> NetworkComparison:
    """Compare networks, write a page, a figure and a table to `folder`, and log them as a run.

    Parameters
    ----------
    client : MlflowClient
        Client of the MLflow store.
    experiment : str
        Id of the experiment.
    folder : Path
        Folder of the page and the figure; it is created if it does not exist.
    chosen : sequence of Run
        The runs of the networks.
    sweep : str, optional
        Id of the sweep whose networks are compared.
    """
    networks = [read_network(client, run) for run in chosen]
    labels = labelled(networks)
    found = compare_networks([each.ranking for each in networks], labels)
    title = f"Sweep {sweep}: {len(networks)} networks" if sweep else f"{len(networks)} networks compared"
    with storage_errors("the comparison", folder):
        folder.mkdir(parents=True, exist_ok=True)
        with paper_style():
            save_png(draw_network_comparison(found), folder / FIGURE, DPI)
        (folder / PAGE).write_text(_page(title, networks, found, folder / FIGURE), encoding="utf-8")
        found.table.to_csv(folder / TABLE_CSV, index=False)
    _log(client, experiment, networks, found, folder, title, sweep)
    return found


def facts(ranking: NetworkRanking) -> dict[str, str]:
    """Return the numbers that describe a network, by their names."""
    layers, channels = ranking.layers, ranking.channels
    is_tested = bool(channels.q.notna().any())
    best = channels.iloc[0]
    return {
        "layers": str(len(layers)),
        "channels": f"{len(channels):,}",
        "largest association": _text(layers.association.max()),
        "stand out": f"{(channels.q < 0.05).mean():.0%}" if is_tested else "–",
        "reliable layers": str(int((layers.reliability >= 0.7).sum())) if layers.reliability.notna().any() else "–",
        "best channel": f"{best.channel} of {best.layer}",
    }


def cells(found: NetworkComparison) -> tuple[list[dict[str, str]], list[list[dict[str, Any]]]]:
    """Return the columns (key, label) and the rows (value, text) of the table of a comparison."""
    columns = [{"key": "part", "label": "layer" if found.is_by_layer else "depth"}]
    for name in found.table.columns[1:]:
        kind, _, number = str(name).rpartition(" ")
        columns.append({"key": str(name).replace(" ", "_"), "label": f"{HEADINGS[kind]} {number}"})
    rows: list[list[dict[str, Any]]] = [
        [
            {"value": place, "text": str(row[0])},
            *({"value": "" if pd.isna(value) else float(value), "text": _text(value)} for value in row[1:]),
        ]
        for place, row in enumerate(found.table.itertuples(index=False))
    ]
    return columns, rows


def _text(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}".replace("-", "−")


def _page(title: str, networks: Sequence[LoggedNetwork], found: NetworkComparison, figure: Path) -> str:
    columns, rows = cells(found)
    values = [facts(each.ranking) for each in networks]
    return template("network_comparison.html.j2").render(
        title=title,
        sentences=found.sentences,
        facts=list(values[0]),
        networks=[
            {"label": label, "cells": list(each.values())} for label, each in zip(found.labels, values, strict=True)
        ],
        figure=embedded(figure),
        is_by_layer=found.is_by_layer,
        columns=columns,
        rows=rows,
        differing=differing_settings([each.params for each in networks]),
    )


def _log(
    client: MlflowClient,
    experiment: str,
    networks: Sequence[LoggedNetwork],
    found: NetworkComparison,
    folder: Path,
    title: str,
    sweep: str | None,
) -> None:
    """Log the comparison as a run, with tags that name the compared runs."""
    tags = {"compares": ",".join(each.run_id for each in networks)} | ({"compared_sweep": sweep} if sweep else {})
    run = client.create_run(experiment, tags=tags, run_name=f"Comparison: {title}")
    run_id, now = str(run.info.run_id), int(run.info.start_time)
    agreement = found.layers.spearman.dropna()
    metrics = [Metric("spearman.mean", float(agreement.mean()), now, 0)] if len(agreement) else []
    note = RunTag("mlflow.note.content", "\n\n".join(found.sentences))
    client.log_batch(run_id, metrics=metrics, tags=[note])
    client.log_table(run_id, found.table.astype(object).where(found.table.notna(), None), TABLE)
    client.log_artifacts(run_id, str(folder))
    client.set_terminated(run_id, "FINISHED")
