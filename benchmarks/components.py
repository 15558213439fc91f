"""Time to compute the principal components of all channels of a layer, compared with scikit-learn, one by one."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from benchmarks.timing import best_in_turns, report, seconds
from pipeline.numerics.pca import MEMORY_MIB, reduce_channels

LAYERS = {"512 x 7 x 7": (512, 7), "64 x 56 x 56": (64, 56)}
N_IMAGES, N_COMPONENTS, N_ROUNDS = 300, 10, 7


def layer(n_channels: int, side: int) -> np.ndarray:
    """Return maps, float32, of shape (n_channels, n_images, side, side): non-negative, with common structure."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(n_channels, N_IMAGES, 8)) @ rng.normal(size=(n_channels, 8, side * side))
    common += rng.normal(size=common.shape)
    return np.maximum(common, 0).astype(np.float32).reshape(n_channels, N_IMAGES, side, side)


def by_scikit_learn(maps: np.ndarray) -> np.ndarray:
    """Return the projections that scikit-learn computes, one channel after the other."""
    reduced = []
    for channel in maps:
        pixels = channel.reshape(len(channel), -1).astype(np.float64)
        reduced.append(PCA(N_COMPONENTS, svd_solver="full").fit_transform(StandardScaler().fit_transform(pixels)))
    return np.stack(reduced)


def measure(n_channels: int, side: int) -> list[str]:
    """Return the row of the table for one layer."""
    maps = layer(n_channels, side)
    sample = maps[:: max(1, n_channels // 64)]
    timers = {
        "pcace": lambda: seconds(partial(reduce_channels, maps, N_COMPONENTS)),
        "scikit-learn": lambda: seconds(partial(by_scikit_learn, sample)) * len(maps) / len(sample),
    }
    found = best_in_turns(timers, N_ROUNDS)
    difference = np.abs(reduce_channels(sample, N_COMPONENTS)[0] - by_scikit_learn(sample)).max()
    tracemalloc.start()
    reduce_channels(maps, N_COMPONENTS, memory_mib=256)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    ratio = f"{found['scikit-learn'] / found['pcace']:.1f} x"
    return [f"{found['pcace']:.2f}", f"{found['scikit-learn']:.2f}", ratio, f"{difference:.0e}", f"{peak:.0f}"]


def main() -> None:
    """Measure both layers, print the table and write it."""
    rows = [[name, *measure(*size)] for name, size in LAYERS.items()]
    headings = ["layer", "pcace, s", "scikit-learn, s", "ratio", "largest difference", "peak MiB at a budget of 256"]
    report("components", f"{N_COMPONENTS} components of {N_IMAGES} images", headings, rows,
           f"scikit-learn: measured on 64 channels and extrapolated. Default budget: {MEMORY_MIB} MiB.")  # fmt: skip


if __name__ == "__main__":
    main()
