"""Time of a run by this process and by one, two and three workers of Ray on this machine: the overhead of parts.

All use one thread for each process, except that `reduce` uses all cores without Ray. The workers have started and have
imported the packages before they are measured; the time that this takes is stated as well. Ray is started again for
each number of workers.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.timing import report
from pipeline.config import compose_settings
from pipeline.resolve import resolve
from pipeline.runner import STAGES, Execution, store_of

N_ROUNDS = 2
WORKERS = (1, 2, 3)
DIVIDED = ("activate", "reduce", "score", "ablate", "evaluate")
RUN = ("n_images=600", "data.images_from=all", "score.n_jobs=1", "model.batch_size=64")
PARTS = ("engine=ray", "engine.images_per_task=64", "engine.channels_per_task=16")


def times(*overrides: str) -> dict[str, float]:
    """Return the seconds that each divided stage takes."""
    with TemporaryDirectory() as folder:
        settings = resolve(compose_settings([*RUN, f"paths.outputs={folder}", *overrides]))
        with store_of(settings) as store:
            execution = Execution(settings, store)
            reports = [execution.obtain(stage) for stage in STAGES[:-1]]
    return {each.stage.name: each.seconds for each in reports if each.stage.name in DIVIDED}


def main() -> None:
    """Measure all in turns, print the table and write it."""
    import ray

    torch.set_num_threads(1)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
    names = ["local", *(f"Ray, {n} worker{'s' * (n > 1)}" for n in WORKERS)]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    started: dict[str, float] = {"local": 0.0}
    times("n_images=60")  # the first call takes longer
    for _ in range(N_ROUNDS):
        rounds["local"].append(times())
        for n_workers, name in zip(WORKERS, names[1:], strict=True):
            start = time.perf_counter()
            ray.init(num_cpus=n_workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            times(*PARTS, "n_images=200")
            started[name] = time.perf_counter() - start
            rounds[name].append(times(*PARTS))
            ray.shutdown()
    best = {name: {stage: min(each[stage] for each in rounds[name]) for stage in DIVIDED} for name in names}
    total = {name: sum(best[name].values()) for name in names}
    rows = [
        [
            name,
            *(f"{best[name][stage]:.2f}" for stage in DIVIDED),
            f"{total[name]:.2f}",
            f"{total[name] / total['local']:.2f} x",
            f"{started[name]:.0f}" if name != "local" else "",
        ]
        for name in names
    ]
    report(
        "engine",
        f"600 images, 64 channels of 8 x 8, on {os.cpu_count()} cores: seconds, the best of {N_ROUNDS} rounds",
        ["", *DIVIDED, "sum", "of local", "start and first run"],
        rows,
    )


if __name__ == "__main__":
    main()
