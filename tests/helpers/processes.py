"""Runs in separate processes. They start quickly, because their server has imported everything before it forks."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from pipeline.observer import Observer, StageReport
from pipeline.settings import Settings
from pipeline.stages.stage import Stage

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["pipeline.__main__", "pipeline.runner", "pipeline.whole_network", "pipeline.console", "pipeline.records",
     "pipeline.tracking.mlflow", "matplotlib.backends.backend_agg", "ace.ace",
     # What the stages import when they compute something.
     "sklearn.datasets", "torchvision.transforms", "pipeline.networks.load", "pipeline.networks.head_outputs",
     "pipeline.networks.channel_ablation", "pipeline.networks.contributions", "pipeline.numerics.pca",
     "pipeline.numerics.probe", "pipeline.rankers.ace", "pipeline.rankers.images", "pipeline.figures.activation_maps",
     "pipeline.figures.cam", "pipeline.figures.effects", "pipeline.figures.gallery", "pipeline.figures.network_views",
     "pipeline.figures.pictures", "pipeline.figures.ranking", "pipeline.figures.smoothness"]
)  # fmt: skip


class Announcer(Observer):
    """Sends the beginning and the end of each stage to another process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def stage_started(self, stage: Stage[Any, Any]) -> None:
        self._connection.send(("started", stage.name))

    def stage_finished(self, report: StageReport) -> None:
        self._connection.send(("finished", report.stage.name))


def _run(settings: Settings, run_dir: Path, connection: Connection) -> None:
    from pipeline.runner import run
    from pipeline.tracking.mlflow import MlflowTracker

    trackers = [MlflowTracker()] if settings.tracking.enabled else []
    run(settings, run_dir, [Announcer(connection), *trackers])


def start_run(settings: Settings, run_dir: Path) -> tuple[ForkServerProcess, Connection]:
    """Start a run; return its process, and the connection on which it announces its stages."""
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(settings, run_dir, there))
    process.start()
    there.close()
    return process, here


def _command_line(arguments: list[str], out: Path) -> None:
    from pipeline.__main__ import main

    with out.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["pipeline", *arguments]
    main()


def start_command(arguments: list[str], out: Path) -> ForkServerProcess:
    """Start ``python -m pipeline`` with these arguments; what it prints is written to `out`."""
    process = CONTEXT.Process(target=_command_line, args=(arguments, out))
    process.start()
    return process


def rank_network(settings: Settings, run_dir: Path, observers: Sequence[Observer] = ()) -> None:
    """Rank several layers, without figures, and save the tables of the network."""
    from pipeline.networks.remembered import remembered
    from pipeline.resolve import resolve
    from pipeline.runner import LAYER_STAGES
    from pipeline.whole_network import NetworkExecution

    stages = [stage for stage in LAYER_STAGES if stage.name not in ("ablate", "evaluate", "visualize")]
    run_dir.mkdir(parents=True, exist_ok=True)
    with remembered():
        NetworkExecution(resolve(settings), run_dir, observers, stages).run().ranking.save(run_dir)


def _rank_network(settings: Settings, run_dir: Path, connection: Connection) -> None:
    rank_network(settings, run_dir, [Announcer(connection)])


def start_network(settings: Settings, run_dir: Path) -> tuple[ForkServerProcess, Connection]:
    """Start a process that calls `rank_network`; return it, and the connection that its stages are announced on."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_rank_network, args=(settings, run_dir, sender))
    process.start()
    sender.close()
    return process, receiver
