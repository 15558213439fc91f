"""The summary of a sweep: a table of its jobs, figures, and an MLflow run that contains both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.artifacts import NetworkRanking, Ranking
from pipeline.console import print_sweep
from pipeline.figures.style import save_png
from pipeline.figures.sweep import Line, draw_sweep, draw_with_first
from pipeline.numerics.faithfulness import rank_correlation
from pipeline.records import Record, varied
from pipeline.spreadsheets import marked_table
from pipeline.store import storage_errors
from pipeline.sweep_folder import SUMMARY

if TYPE_CHECKING:
    from pipeline.sweep_start import SweepStart

N_TOP = 10
RANKINGS, CURVES, AGREEMENT = "rankings.csv", "curves.png", "agreement.png"
DPI = 150


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes
    ----------
    folder : Path
        Folder of the job.
    label : str
        Settings in which the job differs from the others.
    record : Record
        Record of how the job went.
    ranking : DataFrame or None
        Table of the ranking; None if the job failed.
    """

    folder: Path
    label: str
    record: Record
    ranking: pd.DataFrame | None


def gather(sweep_dir: Path) -> list[Job]:
    """Return the jobs of a sweep, in order, from the files in `sweep_dir`."""
    folders = sorted((path for path in sweep_dir.glob("*/") if path.name.isdecimal()), key=lambda path: int(path.name))
    lost = "there is no result: the process was killed, or is still running; see run.log, or the log of the launcher"
    records = [Record.load(folder) or Record(error=lost) for folder in folders]
    known = [folder for folder, record in zip(folders, records, strict=True) if record.overrides]
    labels = dict(zip(known, varied([record.overrides for record in records if record.overrides]), strict=True))
    jobs = []
    for folder, record in zip(folders, records, strict=True):
        found = None
        if record.status == "finished":
            try:
                found = _ranking(folder)
            except (OSError, ValueError, KeyError) as error:  # after a power failure
                record.status, record.error = "failed", f"its ranking cannot be read: {error}"
        jobs.append(Job(folder, labels.get(folder) or f"job {folder.name}", record, found))
    return jobs


def _ranking(folder: Path) -> pd.DataFrame:
    """Return the table of a job's ranking; the channels of several layers are named ``layer:channel``."""
    if (folder / Ranking.PARQUET).exists():
        return pd.read_parquet(folder / Ranking.PARQUET)
    network = NetworkRanking.load(folder)
    table = network.channels
    return table.assign(
        channel=[f"{layer}:{channel}" for layer, channel in zip(table.layer, table.channel, strict=True)],
        score=table[network.summary.by].fillna(0.0),
        layer=network.summary.layer,
        model=network.summary.model,
        by=network.summary.statistic,
    )


def summary(jobs: list[Job]) -> pd.DataFrame:
    """Return a table with one row per job: its settings, best channels, reliability, faithfulness and run times.

    ``faithfulness`` is the Spearman correlation with the effects of ablation, and ``with_first`` that with the ranking
    of the first job that ranked the same channels. ``score_seconds`` is missing if the scores came from the store.
    """
    rows = []
    for job, correlation in zip(jobs, with_first(jobs), strict=True):
        found, record = job.ranking, job.record
        had_scores = record.from_store.get("score", True)
        rows.append(
            {
                "job": int(job.folder.name),
                "question": job.label,
                "status": record.status,
                "top_channels": "" if found is None else " ".join(map(str, found.channel.head(N_TOP))),
                "best_score": None if found is None else found.score.max(),
                "median_score": None if found is None else found[~found.dead].score.median(),
                "n_channels": None if found is None else len(found),
                "reliability": record.reliability,
                "faithfulness": record.faithfulness,
                "with_first": correlation,
                "score_seconds": None if had_scores else record.seconds["score"],
                "seconds": round(sum(record.seconds.values()), 3),
                "from_store": " ".join(name for name, is_cached in record.from_store.items() if is_cached),
                "error": record.error,
            }
        )
    return pd.DataFrame(rows)


def with_first(jobs: list[Job]) -> list[float | None]:
    """Return the Spearman correlation of each job with the first finished job that ranked the same channels.

    It is computed over the channels that vary in both jobs, and is None if there are fewer than three of them, or if
    all their scores are equal.
    """
    firsts: dict[tuple[str, str, int], pd.DataFrame] = {}
    found: list[float | None] = []
    for job in jobs:
        if job.ranking is None:
            found.append(None)
            continue
        table = job.ranking.set_index("channel").sort_index()
        first = firsts.setdefault(_channels(job.ranking), table)
        varying = ~(first.dead | table.dead)
        found.append(rank_correlation(first.score[varying].to_numpy(), table.score[varying].to_numpy()))
    return found


def _channels(ranking: pd.DataFrame) -> tuple[str, str, int]:
    """Return network, layer and number of channels, which are equal for two rankings of the same channels."""
    return str(ranking.model.iloc[0]), str(ranking.layer.iloc[0]), len(ranking)


def lines(jobs: list[Job]) -> tuple[list[Line], str]:
    """Return the lines of the figure of agreement, one for every layer that several jobs ranked, and a setting.

    The setting is the only one in which the jobs of each layer differ. It is ``""`` if there is no such setting, or if
    its values are not numbers. The position of a job is then its number.
    """
    groups: dict[tuple[str, str, int], list[tuple[Job, float | None]]] = {}
    for job, correlation in zip(jobs, with_first(jobs), strict=True):
        if job.ranking is not None:
            groups.setdefault(_channels(job.ranking), []).append((job, correlation))
    groups = {channels: members for channels, members in groups.items() if len(members) > 1}
    settings = {_varied_number([job for job, _ in members]) for members in groups.values()}
    setting = settings.pop() if len(settings) == 1 else ""
    found = []
    for (model, layer, n_channels), members in groups.items():
        several = len({model for model, _, _ in groups}) > 1
        places = [float(_overrides(job)[setting] if setting else job.folder.name) for job, _ in members]
        found.append(
            Line(
                f"{model} {layer}" if several else layer,
                n_channels,
                places,
                [correlation for _, correlation in members],
                [job.record.reliability for job, _ in members],
            )
        )
    return found, setting


def _overrides(job: Job) -> dict[str, str]:
    return {name: value for name, _, value in (override.partition("=") for override in job.record.overrides)}


def _varied_number(jobs: list[Job]) -> str:
    """Return the only setting, apart from the seed, in which these jobs differ, if its values are numbers; else ""."""
    typed = [_overrides(job) for job in jobs]
    names = [name for name in typed[0] if len({each.get(name) for each in typed}) > 1]
    names = names if names == ["seed"] else [name for name in names if name != "seed"]
    try:
        return names[0] if len(names) == 1 and [float(each[names[0]]) for each in typed] else ""
    except (KeyError, ValueError):
        return ""


def side_by_side(jobs: list[Job]) -> pd.DataFrame:
    """Return the channels by rank, one column per job."""
    columns = {job.label: job.ranking.set_index("rank").channel for job in jobs if job.ranking is not None}
    table = pd.DataFrame(columns)
    if all(pd.api.types.is_integer_dtype(column) for column in columns.values()):
        table = table.astype("Int64")  # rankings of other lengths leave missing values
    return table.rename_axis("rank").reset_index()


def sum_up(sweep: SweepStart) -> bool:
    """Print the summary of a sweep, write it to the folder of the sweep, and log it.

    Returns
    -------
    bool
        Whether all jobs have finished.

    Raises
    ------
    StorageError
        If the files or the MLflow run cannot be written.
    """
    jobs = gather(sweep.folder)
    if not jobs:
        return False
    table = summary(jobs)
    with storage_errors("the sweep's summary", sweep.folder):
        sweep.folder.mkdir(parents=True, exist_ok=True)
        marked_table(table).to_csv(sweep.folder / SUMMARY, index=False, lineterminator="\n")
        marked_table(side_by_side(jobs)).to_csv(sweep.folder / RANKINGS, index=False, lineterminator="\n")
        drawn = list(draw(jobs, sweep.folder))
    print_sweep(table, sweep.folder, [SUMMARY, RANKINGS, *drawn])
    if sweep.tracking is not None and sweep.tracking.enabled:
        from pipeline.tracking.sweep_summary import log_sweep

        log_sweep(sweep.folder, table, side_by_side(jobs), sweep.tracking, sweep.outputs)
    return bool((table.status == "finished").all())


def draw(jobs: list[Job], folder: Path) -> Iterator[str]:
    """Draw the figures for which there are enough jobs, and yield the names of their files."""
    rankings = {job.label: job.ranking for job in jobs if job.ranking is not None}
    if rankings:
        save_png(draw_sweep(rankings), folder / CURVES, DPI)
        yield CURVES
    found, setting = lines(jobs)
    if found:
        labels = {} if setting else {float(job.folder.name): job.label for job in jobs if job.ranking is not None}
        save_png(draw_with_first(found, setting, labels), folder / AGREEMENT, DPI)
        yield AGREEMENT
