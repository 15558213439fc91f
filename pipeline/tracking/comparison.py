"""Comparison of logged rankings: figures, a page, and an MLflow run that contains both."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag

from pipeline.figures.comparison import draw_agreement, draw_distributions, draw_slopes
from pipeline.figures.report_page import embedded, template
from pipeline.figures.style import paper_style, save_png
from pipeline.numerics.agreement import MEASURES, Agreement, agreement, headings, ranks_by_channel
from pipeline.store import storage_errors
from pipeline.tracking.names import SECONDS
from pipeline.tracking.runs import LoggedRun, ranked_runs, read_run

PAGE = "comparison.html"
PAIRS = "agreement.json"
DPI = 150
WHY_NOT_RANKS = (
    "Ranks are not compared between different layers, because channels of different layers do not correspond to each "
    "other. Only the distributions of the scores are compared."
)
# Settings that name a run if they differ, in this order. Settings that follow from another one are left out.
NAMING = (
    "model.name", "model.weights", "model.checkpoint", "model.randomized", "layer", "class_name", "n_images",
    "n_components", "seed", "score.kind", "rank.by",
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Runs that ranked the same channels.

    Attributes
    ----------
    runs : tuple of int
        Indices of the runs.
    ranks : tuple of ndarray of shape (n_channels,)
        Rank of each channel in each run.
    agreement : Agreement
        Agreement of each pair of runs.
    """

    runs: tuple[int, ...]
    ranks: tuple[np.ndarray[Any, Any], ...]
    agreement: Agreement


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes
    ----------
    runs : tuple of LoggedRun
        Runs in the order in which they were given.
    labels : tuple of str
        Settings in which each run differs from the others.
    groups : tuple of Group
        Groups of at least two runs that ranked the same channels.
    pairs : DataFrame
        Agreement of each pair of runs that ranked the same channels, one row per pair.
    folder : Path
        Folder of the page and the figures.
    run_id : str
        Id of the MLflow run that contains the page and the figures.
    """

    runs: tuple[LoggedRun, ...]
    labels: tuple[str, ...]
    groups: tuple[Group, ...]
    pairs: pd.DataFrame
    folder: Path
    run_id: str

    @property
    def is_mixed(self) -> bool:
        """Whether the runs ranked different layers."""
        return len({run.ranked for run in self.runs}) > 1


def compare(
    client: MlflowClient,
    experiment: str,
    folder: Path,
    chosen: Sequence[Run],
    *,
    sweep: str | None = None,
    top: int = 10,
) -> Comparison:
    """Compare runs, write a page and figures to `folder`, and log them as a run.

    Parameters
    ----------
    client : MlflowClient
        Client of the MLflow store.
    experiment : str
        Id of the experiment.
    folder : Path
        Folder of the page and the figures; it is created if it does not exist.
    chosen : sequence of Run
        The runs, see `chosen_runs`.
    sweep : str, optional
        Id of the sweep whose runs are compared.
    top : int
        Number of best channels whose overlap is computed.
    """
    runs = tuple(read_run(client, run) for run in chosen)
    failed = [] if sweep is None else ranked_runs(client, experiment, sweep, "FAILED")
    labels = tuple(labelled(runs))
    groups = tuple(_groups(runs, top))
    pairs = _pairs(groups, labels)
    title = f"Sweep {sweep}: {len(runs)} runs" if sweep else f"{len(runs)} runs compared"
    with storage_errors("the comparison", folder):
        folder.mkdir(parents=True, exist_ok=True)
        figures = _draw(runs, labels, groups, folder)
        page = _page(
            title, runs, labels, pairs, figures, [(run.info.run_name, run.data.tags.get("error", "")) for run in failed]
        )
        (folder / PAGE).write_text(page, encoding="utf-8")
    run_id = _log(client, experiment, runs, pairs, folder, title, sweep)
    return Comparison(runs, labels, groups, pairs, folder, run_id)


class Labelled(Protocol):
    """What a label is made of: the id and the settings of a run."""

    @property
    def run_id(self) -> str:
        """The run's id in MLflow."""

    @property
    def params(self) -> dict[str, str]:
        """The settings, by their dotted names."""


def labelled(runs: Sequence[Labelled]) -> list[str]:
    """Return a label for each run: the settings in which the runs differ, or else the beginning of its id."""
    keys = [*NAMING, *sorted({key for run in runs for key in run.params if key.startswith(("score.", "data."))})]
    # Settings that only some runs have follow from the kind of the ranker or of the source, which is in the label.
    keys = [key for key in dict.fromkeys(keys) if all(key in run.params for run in runs)]
    differing = [key for key in keys if len({run.params[key] for run in runs}) > 1]
    if "model.name" in differing:
        differing = [key for key in differing if key != "model.weights"]
    values = {key: _values([run.params[key] for run in runs]) for key in differing}
    labels = [
        ", ".join(f"{key.rpartition('.')[2]}={values[key][place]}" for key in differing) for place in range(len(runs))
    ]
    if len(set(labels)) < len(runs):
        labels = [f"{label} {run.run_id[:6]}".strip() for label, run in zip(labels, runs, strict=True)]
    return labels


def _values(texts: Sequence[str]) -> Sequence[str]:
    """Return the names of files instead of their paths, if these differ."""
    names = [Path(text).name if "/" in text else text for text in texts]
    return names if len(set(names)) == len(set(texts)) else texts


def differing_settings(params: Sequence[dict[str, str]]) -> list[tuple[str, list[str]]]:
    """Return the settings that differ between runs, each with its value in every run."""
    keys = sorted({key for each in params for key in each if not key.startswith(("paths.", "tracking."))})
    differing = [key for key in keys if len({each.get(key) for each in params}) > 1]
    return [(key, [each.get(key, "–") for each in params]) for key in differing]


def _groups(runs: Sequence[LoggedRun], top: int) -> list[Group]:
    same: dict[tuple[str, str, int], list[int]] = {}
    for index, run in enumerate(runs):
        same.setdefault(run.ranked, []).append(index)
    found = []
    for members in same.values():
        if len(members) > 1:
            ranks = tuple(ranks_by_channel(runs[index].table) for index in members)
            found.append(Group(tuple(members), ranks, agreement(ranks, top)))
    return found


def _pairs(groups: Sequence[Group], labels: Sequence[str]) -> pd.DataFrame:
    rows = [
        {"first": labels[group.runs[i]], "second": labels[group.runs[j]]}
        | {name: float(getattr(group.agreement, name)[i, j]) for name in MEASURES}
        | {"top": group.agreement.top}
        for group in groups
        for i, j in combinations(range(len(group.runs)), 2)
    ]
    return pd.DataFrame(rows, columns=["first", "second", *MEASURES, "top"])


def _draw(
    runs: Sequence[LoggedRun], labels: Sequence[str], groups: Sequence[Group], folder: Path
) -> list[tuple[Path, str]]:
    """Draw the figures, and return the path and the caption of each."""
    drawn = []
    with paper_style():
        for number, group in enumerate(groups):
            names = [labels[index] for index in group.runs]
            model, layer, _ = runs[group.runs[0]].ranked
            suffix = f"_{number + 1}" if len(groups) > 1 else ""
            values = [getattr(group.agreement, name) for name in MEASURES]
            measures = list(zip(headings(group.agreement.top), values, strict=True))
            for name, figure, caption in (
                ("agreement", draw_agreement(measures, names, f"{model}, {layer}"),
                 "Agreement of each pair of rankings. The Spearman and Kendall correlations compare all ranks, the two "
                 "overlaps only the best channels."),
                ("slopes", draw_slopes(group.ranks, names, group.agreement.top, f"{model}, {layer}"),
                 "Rank of each channel in each run. The number beside a line is the index of the channel."),
            ):  # fmt: skip
                save_png(figure, folder / f"{name}{suffix}.png", DPI)
                drawn.append((folder / f"{name}{suffix}.png", caption))
        scores = [run.table[~run.table.dead].score.to_numpy(dtype=float) for run in runs]
        kinds = [str(run.table.by.iloc[0]) for run in runs]
        save_png(draw_distributions(scores, labels, kinds), folder / "distributions.png", DPI)
        drawn.append((folder / "distributions.png", "Distribution of the scores of the varying channels of each run."))
    return drawn


def _page(
    title: str,
    runs: Sequence[LoggedRun],
    labels: Sequence[str],
    pairs: pd.DataFrame,
    figures: Sequence[tuple[Path, str]],
    failed: Sequence[tuple[str, str]],
) -> str:
    def seconds(run: LoggedRun) -> float:
        return sum(value for name, value in run.metrics.items() if name.startswith(SECONDS))

    shown = [
        {
            "label": label,
            "name": run.name,
            "run_id": run.run_id,
            "facts": [
                ("best", f"{run.table.score.max():.3f}"),
                ("median", f"{run.table[~run.table.dead].score.median():.3f}"),
                ("above .5", f"{(run.table.score > 0.5).mean():.0%}"),
                ("channels", str(len(run.table))),
                ("seconds", f"{seconds(run):.1f}"),
            ],
            "best": [
                {
                    "channel": row["channel"],
                    "score": f"{row['score']:.3f}",
                    "src": f"data:image/png;base64,{base64.b64encode(run.cards[row['channel']]).decode()}"
                    if row["channel"] in run.cards
                    else "",
                }
                for row in run.table.head(5).to_dict("records")
            ],
        }
        for run, label in zip(runs, labels, strict=True)
    ]
    return template("comparison.html.j2").render(
        title=title,
        runs=shown,
        pairs=[
            [row["first"], row["second"], *(f"{row[name]:.3f}" for name in MEASURES)]
            for row in pairs.to_dict("records")
        ],
        measures=headings(pairs.top.iloc[0]) if len(pairs) else [],
        why_not_ranks=WHY_NOT_RANKS if len({run.ranked for run in runs}) > 1 else "",
        figures=[{"src": embedded(path), "caption": caption} for path, caption in figures],
        differing=differing_settings([run.params for run in runs]),
        failed=list(failed),
    )


def _log(
    client: MlflowClient,
    experiment: str,
    runs: Sequence[LoggedRun],
    pairs: pd.DataFrame,
    folder: Path,
    title: str,
    sweep: str | None,
) -> str:
    """Log the comparison as a run, with tags that name the compared runs, and return its id."""
    tags = {"compares": ",".join(run.run_id for run in runs)} | ({"compared_sweep": sweep} if sweep else {})
    run = client.create_run(experiment, tags=tags, run_name=f"Comparison: {title}")
    run_id = str(run.info.run_id)
    now = int(run.info.start_time)
    metrics = [Metric(f"{name}.mean", float(pairs[name].mean()), now, 0) for name in MEASURES if len(pairs)]
    client.log_batch(run_id, metrics=metrics, tags=[RunTag("mlflow.note.content", f"{title}. See {PAGE}.")])
    if len(pairs):
        client.log_table(run_id, pairs, PAIRS)
    client.log_artifacts(run_id, str(folder))
    client.set_terminated(run_id, "FINISHED")
    return run_id
