"""What every stage makes of a fixed input: ``python -m tests.oracles.stage_outputs`` writes ``stage_outputs.json``.

It does not record other outputs for the same version: raise the version of the stage first.

So that the last digits of a machine's arithmetic do not matter, the images are black and white, the network's weights
are small whole numbers (sums of such are exact in float32, in whatever order), and what one stage hands on is rounded
to a multiple of 1/256 before the next one reads it.
"""

from __future__ import annotations

import base64
import json
import random
import sys
from dataclasses import fields, is_dataclass, replace
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from pipeline.artifacts import Workspace
from pipeline.config import compose_settings
from pipeline.digests import digest_bytes, digest_file
from pipeline.resolve import resolve
from pipeline.runner import STAGES
from pipeline.settings import AceSettings

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
    if not is_dataclass(artifact) or isinstance(artifact, type):
        return artifact
    return replace(artifact, **{field.name: exact(getattr(artifact, field.name)) for field in fields(artifact)})


def described(path: Path) -> Any:
    """Return what is compared of a file: every value that it holds, or the thumbnail of a drawing.

    Numbers are compared with a tolerance (see `differ`), everything else exactly.
    """
    match path.suffix:
        case ".npy":
            return projected(np.load(path))
        case ".png":
            with Image.open(path) as image:
                return thumbnail(image)
        case ".csv" if path.name in ("effects.csv", "curves.csv"):  # means, which no machine need round alike
            return table(pd.read_csv(path))
        case ".parquet":
            return table(pd.read_parquet(path))
        case ".json":
            return values(json.loads(path.read_text(encoding="utf-8")))
        case ".bmp" | ".csv" | ".txt":
            return digest_file(path)
        case _:
            raise AssertionError(f"say how {path.name} is described: a file that is not compared hides wrong results")


def projected(array: np.ndarray) -> dict[str, Any]:
    """Return three weighted sums of an array's values; no weight is small, so that any change of a value moves them."""
    draw = np.random.default_rng(0)
    weights = draw.integers(4, 16, (3, array.size)) * draw.choice([-1, 1], (3, array.size)) / 16
    return {"shape": list(array.shape), "projections": (weights @ array.ravel().astype(float)).tolist()}


def thumbnail(image: Image.Image) -> dict[str, Any]:
    """Return a small grey copy of a drawing, whose pixels two machines need not draw alike."""
    return {"thumbnail": list(image.convert("L").resize((16, 12), Image.Resampling.BOX).tobytes())}


def table(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a table's columns and cells in plain JSON types; a missing value is None."""
    cells = frame.astype(object).where(frame.notna(), None)
    return {"columns": [str(name) for name in frame], "rows": json.loads(json.dumps(cells.to_numpy().tolist()))}


def values(found: Any) -> Any:
    """Return a JSON file's values, with the pictures and bytes that it holds described by what they decode to."""
    if isinstance(found, dict):
        if isinstance(found.get("bytes"), str):
            levels = np.frombuffer(base64.b64decode(found["bytes"]), dtype=np.uint8)
            found = {**found, "bytes": projected(levels)}
        return {name: values(value) for name, value in found.items()}
    if isinstance(found, list):
        return [values(value) for value in found]
    if isinstance(found, str) and found.startswith("data:image/"):
        with Image.open(BytesIO(base64.b64decode(found.partition(",")[2]))) as image:
            return {"mode": image.mode, **projected(np.asarray(image.convert("RGB")))}
    return found


def run_stages(folder: Path) -> None:
    """Run every stage on the fixed input; each leaves its files in ``folder/<stage>``.

    The stage `score` runs with both smoothers; its files with the supersmoother are in ``folder/score/supersmoother``.
    """
    write_images(folder / "input")
    settings = resolve(
        compose_settings(
            ["data=folder", f"data.root={folder / 'input'}", "class_name=noise", "target_class=1",
             "model.factory=tests.oracles.stage_outputs:ExactNetwork", "model.weights=random",
             "model.class_names=null", "model.device=cpu", "layer=conv1", f"n_images={N_IMAGES}",
             "n_components=2", "visualize.dpi=50", "tracking.enabled=false"]
        )
    )  # fmt: skip
    assert isinstance(settings.score, AceSettings)
    by_supersmoother = replace(settings, score=replace(settings.score, smoother="supersmoother", bass=0.0))
    made: dict[str, Any] = {}
    for stage in STAGES:
        own = folder / stage.name
        own.mkdir()
        upstream = {name: made[name] for name in stage.upstream}
        stage.compute(settings, upstream, Workspace(own), lambda done, total: None).save(own)
        made[stage.artifact.name] = exact(stage.artifact.load(own))
        if stage.name == "score":  # the other smoother, from the same components
            other = own / "supersmoother"
            other.mkdir()
            stage.compute(by_supersmoother, upstream, Workspace(other), lambda done, total: None).save(other)


def files(folder: Path) -> list[Path]:
    """Return the files that a stage left in its folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def described_outputs(folder: Path) -> Outputs:
    """Return each stage's version, and what is compared of the files that it left in ``folder/<stage>``."""
    found: Outputs = {}
    for stage in STAGES:
        outputs = {
            path.relative_to(folder / stage.name).as_posix(): described(path) for path in files(folder / stage.name)
        }
        images = "".join(outputs.pop(name) for name in sorted(outputs) if name.endswith(".bmp"))
        found[stage.name] = {
            "version": stage.version,
            "outputs": outputs | ({"images": digest_bytes(images.encode())} if images else {}),
        }
    return found


def stage_outputs() -> Outputs:
    """Return each stage's version, and what it makes of the fixed input."""
    with TemporaryDirectory() as scratch:
        run_stages(Path(scratch))
        return described_outputs(Path(scratch))


def differ(one: Any, other: Any) -> bool:
    """Say whether two stages' outputs differ by more than machines do."""
    if isinstance(one, dict) and isinstance(other, dict):
        if set(one) != set(other):
            return True
        if "projections" in one:
            is_close = np.allclose(one["projections"], other["projections"], rtol=0, atol=1e-7)
            return any(one[name] != other[name] for name in one if name != "projections") or not is_close
        if "thumbnail" in one:
            return bool(np.abs(np.subtract(one["thumbnail"], other["thumbnail"])).max() > 8)
        return any(differ(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) != len(other) or any(differ(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) or isinstance(other, float):
        are_numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (one, other))
        return not are_numbers or not np.isclose(one, other, rtol=1e-7, atol=1e-9, equal_nan=True)
    return type(one) is not type(other) or bool(one != other)


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
        sys.exit(
            f"error: the version of a stage must be raised if its results change; got the recorded version and other "
            f"results for {', '.join(stale)}. Raise the version in pipeline/stages/."
        )
    PATH.write_text(json.dumps(found, indent=None, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
