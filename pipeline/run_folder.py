"""The folder of a run: its results, copied from the store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pipeline.artifacts import Effects, Figures, ImageSet, Ranking
from pipeline.files import copy_whole, write_whole
from pipeline.observer import RunResult

REPORT = "report.html"
SETTINGS = "settings.json"
DOWNLOAD_REPORT = "download_report.csv"
FIGURES = "figures"


def publish(result: RunResult) -> None:
    """Write ranking, effects, figures and settings to the folder of the run, each file as a whole or not at all."""
    folders, run_dir = result.artifacts.folders, result.run_dir
    sources: dict[str, Path] = {name: folders[Ranking] / name for name in (Ranking.CSV, Ranking.PARQUET)}
    if result.effects.is_measured:
        sources[Effects.CSV] = folders[Effects] / Effects.CSV
    drawn = result.artifacts[Figures]
    sources |= {f"{FIGURES}/{path.relative_to(drawn.folder)}": path for path in drawn.all_pictures}
    if (report := result.artifacts[ImageSet].report) is not None:
        sources[DOWNLOAD_REPORT] = report
    for name, source in sources.items():
        copy_whole(source, run_dir / name)
    write_whole(run_dir / SETTINGS, json.dumps(asdict(result.settings), indent=1) + "\n")
