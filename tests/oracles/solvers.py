"""Make solvers.json: the samples' correlations by the `ace` package (bass 0) and by R's acepack (bass 5).

    python tests/oracles/solvers.py

None of our solver. Needs Rscript with acepack (Debian: r-cran-acepack).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from pipeline.numerics import ace_package  # noqa: E402
from tests.oracles.samples import SAMPLES, Sample  # noqa: E402


def by_acepack(samples: dict[str, Sample]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return acepack's phi, (n_images, n_components), and theta, (n_images,), for each sample."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for sample, (x, y) in samples.items():
            np.ascontiguousarray(x, dtype=float).tofile(folder / f"{sample}.x.bin")
            np.asarray(y, dtype=float).tofile(folder / f"{sample}.y.bin")
            (folder / f"{sample}.shape").write_text(f"{x.shape[0]} {x.shape[1]}\n")
        subprocess.run(["Rscript", str(HERE / "acepack.R"), name], check=True, capture_output=True)
        return {
            sample: (
                np.fromfile(folder / f"{sample}.phi.bin").reshape(x.shape),
                np.fromfile(folder / f"{sample}.theta.bin"),
            )
            for sample, (x, _) in samples.items()
        }


def correlations(phi: np.ndarray, theta: np.ndarray) -> dict[str, float]:
    return {
        "maximal": float(np.corrcoef(phi.sum(axis=1), theta)[0, 1]),
        "first": float(abs(np.corrcoef(phi[:, 0], theta)[0, 1])),
    }


def main() -> None:
    samples = {name: make() for name, make in SAMPLES.items()}
    golden = {
        "ace": {
            name: correlations(found.phi[0], found.theta[0])
            for name, (x, y) in samples.items()
            for found in [ace_package.optimal_transforms(x[None], y)]
        },
        "acepack": {name: correlations(*found) for name, found in by_acepack(samples).items()},
    }
    (HERE / "solvers.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
