"""Time of the permutation null of a whole layer, compared with R's acepack for the same number of solutions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.solver import BASS_0, BASS_5, acepack, data
from benchmarks.timing import best_in_turns, report, seconds
from pipeline.numerics.ace import permuted_correlations

N_CHANNELS, N_IMAGES, N_COMPONENTS, N_PERMUTATIONS = 512, 300, 10, 200
SAMPLE = 16, 32  # numbers of channels and permutations for which acepack is measured
SCALE = N_CHANNELS * N_PERMUTATIONS // (SAMPLE[0] * SAMPLE[1])
N_ROUNDS = 3
AT_0, AT_5, ACEPACK = "pcace, bass 0, 2 threads", "pcace, bass 5, 2 threads", "acepack (bass 5), 1 thread"


def main() -> None:
    """Measure all solvers in turns, print the table and write it."""
    values, response = data(N_CHANNELS, N_IMAGES, N_COMPONENTS)
    rng = np.random.default_rng(1)
    permutations = np.array([rng.permutation(N_IMAGES) for _ in range(N_PERMUTATIONS)])
    null = partial(permuted_correlations, values, response, permutations, n_threads=2)
    permuted_correlations(values[:1], response, permutations[:2])  # compiles the solver before it is measured
    timers: dict[str, Callable[[], float]] = {
        AT_0: lambda: seconds(partial(null, parameters=BASS_0)),
        AT_5: lambda: seconds(partial(null, parameters=BASS_5)),
    }
    with TemporaryDirectory() as folder:
        if shutil.which("Rscript"):
            few, permuted = values[: SAMPLE[0]], response[permutations[: SAMPLE[1]]]
            timers[ACEPACK] = lambda: SCALE * acepack(few, permuted, Path(folder))
        found = best_in_turns(timers, N_ROUNDS)
    rows = [[name, f"{time:.1f}", f"{time / found[AT_5]:.1f} x"] for name, time in found.items()]
    title = f"{N_CHANNELS} channels, {N_IMAGES} images, {N_COMPONENTS} components, {N_PERMUTATIONS} permutations"
    notes = (
        f"Best of {N_ROUNDS} rounds. acepack: measured for {SAMPLE[0]} channels and {SAMPLE[1]} permutations on one "
        f"thread, and multiplied by {SCALE}."
    )
    report("null", title, ["solver", "seconds", "relative to pcace, bass 5"], rows, notes)


if __name__ == "__main__":
    main()
