"""What every stage makes of a fixed input: ``python -m tests.oracles.stage_outputs`` writes ``stage_outputs.json``.

It refuses to record other outputs under an old version: raise the stage's ``VERSION`` first.

So that the last digits of a machine's arithmetic do not matter, the images are black and white, the network's weights
are small whole numbers (sums of such are exact in float32, in whatever order), and what one stage hands on is rounded
to a multiple of 1/256 before the next one reads it.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from pipeline.config import compose_settings
from pipeline.digests import digest_bytes, digest_file
from pipeline.resolve import resolve
from pipeline.runner import STAGES

PATH = Path(__file__).with_suffix(".json")
N_IMAGES, SIDE, N_CHANNELS = 24, 8, 6
Outputs = dict[str, dict[str, Any]]


class ExactNetwork(nn.Module):
    """One convolution and a linear layer, all weights whole numbers from -2 to 2."""

    def __init__(self) -> None:
        super().__init__()
        draw = random.Random(1)
        self.conv1 = nn.Conv2d(1, N_CHANNELS, 3, bias=False)
        self.fc = nn.Linear(N_CHANNELS * 36, 2, bias=False)
        for parameter in self.parameters():
            values = [float(draw.randint(-2, 2)) for _ in range(parameter.numel())]
            parameter.data = torch.tensor(values).reshape(parameter.shape)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.conv1(images)).flatten(1))


def write_images(folder: Path) -> None:
    draw = random.Random(0)
    (folder / "noise").mkdir(parents=True)
    for index in range(N_IMAGES):
        pixels = bytes(255 * draw.getrandbits(1) for _ in range(SIDE * SIDE))
        Image.frombytes("L", (SIDE, SIDE), pixels).save(folder / "noise" / f"{index:02d}.bmp")


def exact(artifact: Any) -> Any:
    """Return the artifact with every number in its arrays a multiple of 1/256."""
    if isinstance(artifact, np.ndarray) and np.issubdtype(artifact.dtype, np.floating):
        return np.round(artifact * 256) / 256
    if isinstance(artifact, dict):
        return {name: exact(value) for name, value in artifact.items()}
    if not is_dataclass(artifact):
        return artifact
    return replace(artifact, **{field.name: exact(getattr(artifact, field.name)) for field in fields(artifact)})


def described(path: Path) -> Any:
    """Return what is compared of a file: all of a text or an image, projections of an array, a drawing's thumbnail."""
    match path.suffix:
        case ".npy":
            array = np.load(path)
            weights = np.random.default_rng(0).integers(-8, 9, (3, array.size)) / 8
            return {"shape": list(array.shape), "projections": (weights @ array.ravel().astype(float)).tolist()}
        case ".png":
            with Image.open(path) as image:
                return {"thumbnail": list(image.convert("L").resize((16, 12), Image.Resampling.BOX).tobytes())}
        case ".csv" if path.name in ("effects.csv", "curves.csv"):  # means, which no machine need round alike
            return {"rows": pd.read_csv(path).to_numpy().tolist()}
        case ".bmp" | ".csv" | ".txt":
            return digest_file(path)
        case _:
            return "written"


def stage_outputs() -> Outputs:
    """Return each stage's version, and what it makes of the fixed input."""
    found: Outputs = {}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_images(folder / "images")
        settings = resolve(
            compose_settings(
                ["data=folder", f"data.root={folder / 'images'}", "class_name=noise", "target_class=1",
                 "model.factory=tests.oracles.stage_outputs:ExactNetwork", "model.weights=random",
                 "model.class_names=null", "model.device=cpu", "layer=conv1", f"n_images={N_IMAGES}",
                 "n_components=2", "score.bass=0.0", "visualize.dpi=50", "tracking.enabled=false"]
            )
        )  # fmt: skip
        made: dict[str, Any] = {}
        for stage in STAGES:
            (folder / stage.name).mkdir()
            upstream = [made[name] for name in stage.upstream]
            stage.module.run(
                stage.module.select(settings), *upstream, folder=folder / stage.name, progress=lambda done, total: None
            )
            made[stage.name] = exact(stage.artifact.load(folder / stage.name))
            paths = sorted(path for path in (folder / stage.name).rglob("*") if path.is_file())
            outputs = {path.relative_to(folder / stage.name).as_posix(): described(path) for path in paths}
            images = "".join(outputs.pop(name) for name in sorted(outputs) if name.endswith(".bmp"))
            found[stage.name] = {
                "version": stage.module.VERSION,
                "outputs": outputs | ({"images": digest_bytes(images.encode())} if images else {}),
            }
    return found


def differ(one: Any, other: Any) -> bool:
    """Say whether two stages' outputs differ by more than machines do."""
    if isinstance(one, dict) and isinstance(other, dict):
        if set(one) != set(other):
            return True
        if "projections" in one:
            is_close = np.allclose(one["projections"], other["projections"], rtol=0, atol=1e-7)
            return one["shape"] != other["shape"] or not is_close
        if "rows" in one:
            return not np.allclose(one["rows"], other["rows"], rtol=1e-5, atol=1e-5)
        if "thumbnail" in one:
            return bool(np.abs(np.subtract(one["thumbnail"], other["thumbnail"])).max() > 8)
        return any(differ(one[name], other[name]) for name in one)
    return bool(one != other)


def main() -> None:
    """Record today's outputs."""
    found = stage_outputs()
    recorded = json.loads(PATH.read_text()) if PATH.exists() else {}
    stale = [
        name
        for name, stage in found.items()
        if name in recorded
        and stage["version"] == recorded[name]["version"]
        and differ(stage["outputs"], recorded[name]["outputs"])
    ]
    if stale:
        sys.exit(f"error: VERSION must be raised where results change; got the old one in {', '.join(stale)}.")
    PATH.write_text(json.dumps(found, indent=None, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
