"""The folder of a run: its results, copied from the store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.artifacts import Effects, Figures, ImageSet, Ranking
from pipeline.files import copy_whole, write_whole
from pipeline.observer import NetworkResult, RunResult
from pipeline.settings import Settings

REPORT = "report.html"
NETWORK_PAGE = "network.html"  # the page of several layers, which links to their reports
SETTINGS = "settings.json"
KEYS = "artifacts.json"  # the digests of the keys of the artifacts, by the names of their stages
DOWNLOAD_REPORT = "download_report.csv"
FIGURES = "figures"
LAYERS = "layers"  # folder with a folder for each layer of a network


def publish(result: RunResult) -> None:
    """Write ranking, effects, figures and settings to the folder of the run, each file as a whole or not at all."""
    folders, run_dir = result.artifacts.folders, result.run_dir
    sources: dict[str, Path] = {name: folders[Ranking] / name for name in (Ranking.CSV, Ranking.PARQUET, Ranking.TRUST)}
    if result.effects.is_measured:
        sources[Effects.CSV] = folders[Effects] / Effects.CSV
    drawn = result.artifacts[Figures]
    sources |= {f"{FIGURES}/{path.relative_to(drawn.folder)}": path for path in drawn.all_pictures}
    if (report := result.artifacts[ImageSet].report) is not None:
        sources[DOWNLOAD_REPORT] = report
    for name, source in sources.items():
        copy_whole(source, run_dir / name)
    write_whole(run_dir / KEYS, json.dumps(_digests(result), indent=1) + "\n")
    write_settings(result.settings, run_dir)


def _digests(result: RunResult) -> dict[str, str]:
    """Return the digests of the keys of all artifacts of a run, also of those that only others were computed from."""
    found: dict[str, str] = {}
    for report in result.reports:
        found |= report.key.description["upstream"] | {report.stage.name: report.key.digest}
    return found


def write_settings(settings: Settings, run_dir: Path) -> None:
    """Write the settings to the folder of the run."""
    write_whole(run_dir / SETTINGS, json.dumps(asdict(settings), indent=1) + "\n")


def layer_folder(run_dir: Path, layer: str) -> Path:
    """Return the folder of one layer in the folder of a run that ranks several."""
    return run_dir / LAYERS / layer.replace("/", "_")


def publish_network(result: NetworkResult) -> None:
    """Write the tables of the network and the settings to the folder of the run."""
    with TemporaryDirectory(dir=result.run_dir, prefix=".tables-") as folder:
        result.ranking.save(Path(folder))
        for path in sorted(Path(folder).iterdir()):
            copy_whole(path, result.run_dir / path.name)
    write_settings(result.settings, result.run_dir)
