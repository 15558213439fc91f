"""What a sweep found: its jobs side by side, printed, drawn, and logged as a run of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.artifacts import Ranking
from pipeline.console import print_sweep
from pipeline.figures.sweep import draw_sweep
from pipeline.records import Record, varied
from pipeline.store import storage_errors

if TYPE_CHECKING:
    from pipeline.config import SweepStart

N_TOP = 10
SUMMARY, RANKINGS, CURVES = "summary.csv", "rankings.csv", "curves.png"


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
    """Return one row per job: what set it apart, its best channels, how long it took, what came from the store."""
    rows = []
    for job in jobs:
        found, record = job.ranking, job.record
        rows.append(
            {
                "job": int(job.folder.name),
                "question": job.label,
                "status": record.status,
                "top_channels": "" if found is None else " ".join(map(str, found.channel.head(N_TOP))),
                "best_score": None if found is None else found.score.max(),
                "median_score": None if found is None else found[~found.dead].score.median(),
                "n_channels": None if found is None else len(found),
                "seconds": round(sum(record.seconds.values()), 3),
                "from_store": " ".join(name for name, is_cached in record.from_store.items() if is_cached),
                "error": record.error,
            }
        )
    return pd.DataFrame(rows)


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
        table.to_csv(sweep.folder / SUMMARY, index=False, lineterminator="\n")
        side_by_side(jobs).to_csv(sweep.folder / RANKINGS, index=False, lineterminator="\n")
        curves = {job.label: job.ranking for job in jobs if job.ranking is not None}
        if curves:
            draw_sweep(curves).savefig(sweep.folder / CURVES, dpi=150, metadata={"Software": None})
    print_sweep(table, sweep.folder)
    if sweep.tracking is not None and sweep.tracking.enabled:
        from pipeline.tracking.sweeps import log_sweep

        log_sweep(sweep.folder, table, side_by_side(jobs), sweep.tracking, sweep.outputs)
    return bool((table.status == "finished").all())
