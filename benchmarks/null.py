"""The permutation null of a whole layer, against what R's acepack would take for the same solves."""

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
SAMPLE = 16, 32  # channels and permutations that acepack solves
SCALE = N_CHANNELS * N_PERMUTATIONS // (SAMPLE[0] * SAMPLE[1])
N_ROUNDS = 3
OURS, OURS_AT_5, ACEPACK = "ours, bass 0, 2 threads", "ours, bass 5, 2 threads", "acepack (bass 5), 1 thread"


def main() -> None:
    """Measure all ways in turns; print and write the table."""
    values, response = data(N_CHANNELS, N_IMAGES, N_COMPONENTS)
    rng = np.random.default_rng(1)
    permutations = np.array([rng.permutation(N_IMAGES) for _ in range(N_PERMUTATIONS)])
    null = partial(permuted_correlations, values, response, permutations, n_threads=2)
    permuted_correlations(values[:1], response, permutations[:2])  # compiled
    works: dict[str, Callable[[], float]] = {
        OURS: lambda: seconds(partial(null, parameters=BASS_0)),
        OURS_AT_5: lambda: seconds(partial(null, parameters=BASS_5)),
    }
    with TemporaryDirectory() as folder:
        if shutil.which("Rscript"):
            few, permuted = values[: SAMPLE[0]], response[permutations[: SAMPLE[1]]]
            works[ACEPACK] = lambda: SCALE * acepack(few, permuted, Path(folder))
        found = best_in_turns(works, N_ROUNDS)
    rows = [[name, f"{took:.1f}", f"{took / found[OURS_AT_5]:.1f} x"] for name, took in found.items()]
    title = f"{N_CHANNELS} channels, {N_IMAGES} images, {N_COMPONENTS} components, {N_PERMUTATIONS} permutations"
    notes = (
        f"Best of {N_ROUNDS} rounds. acepack solves {SAMPLE[0]} channels for {SAMPLE[1]} permutations on one thread; "
        f"its seconds are those times {SCALE}."
    )
    report("null", title, ["solver", "seconds", "of ours at bass 5"], rows, notes)


if __name__ == "__main__":
    main()
