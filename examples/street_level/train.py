"""Fit the last layer of the network of this example to a number for each image, and write the weights.

``python -m examples.street_level.train TABLE`` reads a CSV file with the columns ``path`` and ``value``, for example
the concentration of a pollutant at the place of each panorama. ``--stand-in`` writes such a table first: for every
photograph in a folder it takes how grey the upper third is, from 0 (saturated colours) to 1, in the place of a
measurement.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict
from torch import nn

from examples.street_level.network import street_level

SIDE, BATCH = 224, 32
SUFFIXES = (".jpg", ".jpeg", ".png")


def pixels_of(path: Path) -> np.ndarray:
    """Return a photograph as an array of shape (224, 224, 3) with values from 0 to 255."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def greyness(path: Path) -> float:
    """Return the mean of 1 - saturation over the upper third of a photograph, which is the sky in many of them."""
    upper = pixels_of(path)[: SIDE // 3].astype(float)
    brightest = np.maximum(upper.max(axis=2), 1)
    return float((upper.min(axis=2) / brightest).mean())


def inputs_of(paths: Sequence[Path]) -> torch.Tensor:
    """Return photographs as inputs of the network, (n, 3, 224, 224)."""
    images = np.stack([pixels_of(path) for path in paths])
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128


@torch.no_grad()
def features_of(network: nn.Module, paths: Sequence[Path]) -> np.ndarray:
    """Return what the last layer is applied to, an array of shape (n_images, 1280)."""
    found: list[torch.Tensor] = []
    handle = network.get_submodule("_fc").register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0]))
    for start in range(0, len(paths), BATCH):
        network(inputs_of(paths[start : start + BATCH]))
    handle.remove()
    return torch.cat(found).numpy()


def fit(network: nn.Module, paths: Sequence[Path], values: np.ndarray) -> float:
    """Fit the last layer by ridge regression, and return the correlation with held-out values (5 folds)."""
    features = features_of(network, paths)
    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    standardised = (features - centre) / scale
    ridge = RidgeCV(alphas=np.logspace(0, 5, 11))
    held_out = cross_val_predict(ridge, standardised, values, cv=5)
    ridge.fit(standardised, values)
    last = network.get_submodule("_fc")
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(ridge.coef_ / scale)[None])
        last.bias.fill_(float(ridge.intercept_ - (ridge.coef_ / scale) @ centre))
    return float(np.corrcoef(held_out, values)[0, 1])


def main() -> None:
    """Fit the network and write its weights."""
    parser = argparse.ArgumentParser(prog="python -m examples.street_level.train", description=__doc__)
    parser.add_argument("table", type=Path, metavar="TABLE", help="CSV file with the columns path and value")
    parser.add_argument(
        "--photographs", type=Path, metavar="FOLDER", help="folder that the paths are relative to (that of the table)"
    )
    parser.add_argument("--stand-in", action="store_true", help="write the table for all photographs in the folder")
    parser.add_argument(
        "--output", type=Path, default=Path("data/street_level.safetensors"), help="file of the weights"
    )
    given = parser.parse_args()
    folder = given.photographs or given.table.parent
    if given.stand_in:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            parser.error(f"--photographs must be a folder with JPEG or PNG files; got {folder}. Give another folder.")
        rows = [{"path": path.relative_to(folder).as_posix(), "value": greyness(path)} for path in found]
        pd.DataFrame(rows).to_csv(given.table, index=False)
    table = pd.read_csv(given.table)
    paths = [folder / path for path in table.path]
    network = street_level().eval()
    correlation = fit(network, paths, table.value.to_numpy(dtype=float))
    print(f"{len(table):,} images; correlation of held-out values with the predicted ones: {correlation:.2f}")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), given.output)
    print(given.output)


if __name__ == "__main__":
    main()
