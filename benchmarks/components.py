"""Principal components of a whole layer, against a loop of scikit-learn over its channels."""

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
    """Return rectified maps with some common structure, float32."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(n_channels, N_IMAGES, 8)) @ rng.normal(size=(n_channels, 8, side * side))
    common += rng.normal(size=common.shape)
    return np.maximum(common, 0).astype(np.float32).reshape(n_channels, N_IMAGES, side, side)


def by_scikit_learn(maps: np.ndarray) -> np.ndarray:
    """Return the projections, channel after channel."""
    reduced = []
    for channel in maps:
        pixels = channel.reshape(len(channel), -1).astype(np.float64)
        reduced.append(PCA(N_COMPONENTS, svd_solver="full").fit_transform(StandardScaler().fit_transform(pixels)))
    return np.stack(reduced)


def measure(n_channels: int, side: int) -> list[str]:
    """Return one layer's row."""
    maps = layer(n_channels, side)
    sample = maps[:: max(1, n_channels // 64)]
    works = {
        "ours": lambda: seconds(partial(reduce_channels, maps, N_COMPONENTS)),
        "theirs": lambda: seconds(partial(by_scikit_learn, sample)) * len(maps) / len(sample),
    }
    found = best_in_turns(works, N_ROUNDS)
    difference = np.abs(reduce_channels(sample, N_COMPONENTS)[0] - by_scikit_learn(sample)).max()
    tracemalloc.start()
    reduce_channels(maps, N_COMPONENTS, memory_mib=256)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    ratio = f"{found['theirs'] / found['ours']:.1f} x"
    return [f"{found['ours']:.2f}", f"{found['theirs']:.2f}", ratio, f"{difference:.0e}", f"{peak:.0f}"]


def main() -> None:
    """Measure both layers; print and write the table."""
    rows = [[name, *measure(*size)] for name, size in LAYERS.items()]
    headings = ["layer", "ours, s", "scikit-learn, s", "ratio", "largest difference", "peak MiB of 256"]
    report("components", f"{N_COMPONENTS} components of {N_IMAGES} images", headings, rows,
           f"scikit-learn on 64 channels, scaled up; the default budget is {MEMORY_MIB} MiB.")  # fmt: skip


if __name__ == "__main__":
    main()
