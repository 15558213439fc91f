"""What a sweep found: its jobs side by side, printed, drawn, and logged as a run of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.artifacts import Ranking
from pipeline.console import print_sweep
from pipeline.figures.style import save_png
from pipeline.figures.sweep import Line, draw_sweep, draw_with_first
from pipeline.numerics.faithfulness import rank_correlation
from pipeline.records import Record, varied
from pipeline.spreadsheets import marked_table
from pipeline.store import storage_errors

if TYPE_CHECKING:
    from pipeline.config import SweepStart

N_TOP = 10
SUMMARY, RANKINGS, CURVES, AGREEMENT = "summary.csv", "rankings.csv", "curves.png", "agreement.png"
DPI = 150


@dataclass(frozen=True)
class Job:
    """One job of a sweep: its folder, what set it apart, how it went, what it found (None where it failed)."""

    folder: Path
    label: str
    record: Record
    ranking: pd.DataFrame | None


def gather(sweep_dir: Path) -> list[Job]:
    """Return the jobs of a sweep, in order, from the files they left below `sweep_dir`."""
    folders = sorted((path for path in sweep_dir.glob("*/") if path.name.isdecimal()), key=lambda path: int(path.name))
    lost = "it left no result: its process was killed, or still runs; see run.log, or the launcher's own log"
    records = [Record.load(folder) or Record(error=lost) for folder in folders]
    heard = [folder for folder, record in zip(folders, records, strict=True) if record.overrides]
    labels = dict(zip(heard, varied([record.overrides for record in records if record.overrides]), strict=True))
    return [
        Job(
            folder,
            labels.get(folder) or f"job {folder.name}",
            record,
            pd.read_parquet(folder / Ranking.PARQUET) if record.status == "finished" else None,
        )
        for folder, record in zip(folders, records, strict=True)
    ]


def summary(jobs: list[Job]) -> pd.DataFrame:
    """Return one row per job: what set it apart, its best channels, how good its ranking is, how long it took.

    ``faithfulness`` is the rank correlation with the effects of ablating channels, ``with_first`` that with the ranking
    of the first job that ranked the same channels. ``score_seconds`` has no value where the store had the scores.
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
    """Return each job's rank correlation with the first finished job that ranked the same channels.

    Over the channels that live in both; None where there are too few of them, or their scores are all the same.
    """
    firsts: dict[tuple[str, str, int], pd.DataFrame] = {}
    found: list[float | None] = []
    for job in jobs:
        if job.ranking is None:
            found.append(None)
            continue
        table = job.ranking.set_index("channel").sort_index()
        first = firsts.setdefault(_channels(job.ranking), table)
        living = ~(first.dead | table.dead)
        found.append(rank_correlation(first.score[living].to_numpy(), table.score[living].to_numpy()))
    return found


def _channels(ranking: pd.DataFrame) -> tuple[str, str, int]:
    """Return what two rankings of the same channels have in common: network, layer, how many channels."""
    return str(ranking.model.iloc[0]), str(ranking.layer.iloc[0]), len(ranking)


def lines(jobs: list[Job]) -> tuple[list[Line], str]:
    """Return, for every layer that several jobs ranked, the course of `with_first`, and the setting that it follows.

    That is ``""`` where no single setting parts the jobs of each layer, or its values are no numbers: then a job's
    place is its number.
    """
    groups: dict[tuple[str, str, int], list[tuple[Job, float | None]]] = {}
    for job, correlation in zip(jobs, with_first(jobs), strict=True):
        if job.ranking is not None:
            groups.setdefault(_channels(job.ranking), []).append((job, correlation))
    groups = {channels: members for channels, members in groups.items() if len(members) > 1}
    settings = {_moved([job for job, _ in members]) for members in groups.values()}
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


def _moved(jobs: list[Job]) -> str:
    """Return the setting, numbers all, that alone or beside the seed parts these jobs; else nothing."""
    typed = [_overrides(job) for job in jobs]
    names = [name for name in typed[0] if len({each.get(name) for each in typed}) > 1]
    names = names if names == ["seed"] else [name for name in names if name != "seed"]
    try:
        return names[0] if len(names) == 1 and [float(each[names[0]]) for each in typed] else ""
    except (KeyError, ValueError):
        return ""


def side_by_side(jobs: list[Job]) -> pd.DataFrame:
    """Return the channels by rank, one column a job."""
    columns = {job.label: job.ranking.set_index("rank").channel for job in jobs if job.ranking is not None}
    return pd.DataFrame(columns).astype("Int64").rename_axis("rank").reset_index()


def sum_up(sweep: SweepStart) -> bool:
    """Print what the sweep found, leave it in the sweep's folder, log it; say whether every job finished.

    Raises
    ------
    StorageError
        If the disk or MLflow's store does not take it.
    """
    jobs = gather(sweep.folder)
    if not jobs:
        return False
    table = summary(jobs)
    with storage_errors("the sweep's summary", sweep.folder):
        sweep.folder.mkdir(parents=True, exist_ok=True)
        marked_table(table).to_csv(sweep.folder / SUMMARY, index=False, lineterminator="\n")
        marked_table(side_by_side(jobs)).to_csv(sweep.folder / RANKINGS, index=False, lineterminator="\n")
        drawn = list(_draw(jobs, sweep.folder))
    print_sweep(table, sweep.folder, [SUMMARY, RANKINGS, *drawn])
    if sweep.tracking is not None and sweep.tracking.enabled:
        from pipeline.tracking.sweep_summary import log_sweep

        log_sweep(sweep.folder, table, side_by_side(jobs), sweep.tracking, sweep.outputs)
    return bool((table.status == "finished").all())


def _draw(jobs: list[Job], folder: Path) -> Iterator[str]:
    """Draw what there is to draw, and yield the files' names."""
    curves = {job.label: job.ranking for job in jobs if job.ranking is not None}
    if curves:
        save_png(draw_sweep(curves), folder / CURVES, DPI)
        yield CURVES
    courses, setting = lines(jobs)
    if courses:
        labels = {} if setting else {float(job.folder.name): job.label for job in jobs if job.ranking is not None}
        save_png(draw_with_first(courses, setting, labels), folder / AGREEMENT, DPI)
        yield AGREEMENT
