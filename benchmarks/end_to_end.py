"""Time of the whole pipeline, compared with a loop that only decodes the images and runs the network in batches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import report, seconds
from pipeline.config import compose_settings
from pipeline.networks.inputs import Preprocessing, batch_slices
from pipeline.networks.load import load
from pipeline.observer import RunResult
from pipeline.resolve import resolve
from pipeline.runner import run
from pipeline.settings import Settings

N_IMAGES, SIDE, N_ROUNDS = 300, 224, 3
RANKING = ("download", "activate", "reduce", "score", "rank")
NO_EVIDENCE = ("score.permutations=0", "score.folds=0", "score.bootstrap=0")


def photographs(folder: Path) -> None:
    """Write JPEG files of 224 x 224 pixels with smooth random images, which take as long to decode as photographs."""
    rng = np.random.default_rng(0)
    (folder / "scene").mkdir(parents=True)
    for index in range(N_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, size=(14, 14, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / "scene" / f"{index:04d}.jpg", quality=92)


def bare_loop(settings: Settings, paths: list[Path]) -> None:
    """Decode the images and run the network on them, one batch after the other, without storing anything."""
    network, preprocessing = load(settings.model, settings.seed), Preprocessing(settings.model)
    with torch.inference_mode():
        for batch in batch_slices(len(paths), settings.model.batch_size):
            images = [preprocessing.transform(preprocessing.open(path)) for path in paths[batch]]
            network(torch.stack(images))


def main() -> None:
    """Measure pipeline and loop in turns, print the table of the stages and write it."""
    with TemporaryDirectory() as scratch:
        root = Path(scratch) / "photographs"
        photographs(root)
        paths = sorted((root / "scene").glob("*.jpg"))
        overrides = [
            "model=resnet18", "model.weights=random", "model.transform.kind=resize", "data=folder", f"data.root={root}",
            "class_name=scene", "layer=layer4.1.conv2", f"n_images={N_IMAGES}", "n_components=10",
            "tracking.enabled=false", "visualize.maximize=never",
        ]  # fmt: skip
        rounds: list[tuple[float, float, RunResult]] = []
        for index in range(N_ROUNDS + 1):  # the first round is not used, because it includes compilation and caching
            outputs = Path(scratch) / f"outputs{index}"
            settings = compose_settings([*overrides, *NO_EVIDENCE, f"paths.outputs={outputs}"])
            result = run(settings, outputs / "run")
            ranking = sum(each.seconds for each in result.reports if each.stage.name in RANKING)
            rounds.append((ranking, seconds(partial(bare_loop, resolve(settings), paths)), result))
        with_evidence = run(compose_settings([*overrides, f"paths.outputs={outputs}"]), outputs / "evidence")
    ranking, bare, result = min(rounds[1:], key=lambda each: each[0] / each[1])
    rows = [[each.stage.name, f"{each.seconds:.2f}", f"{each.seconds / bare:.2f} x"] for each in result.reports]
    rows.append(["download to rank", f"{ranking:.2f}", f"{ranking / bare:.2f} x"])
    evidence = next(each.seconds for each in with_evidence.reports if each.stage.name == "score")
    rows.append(["score with evidence", f"{evidence:.2f}", f"{evidence / bare:.2f} x"])
    rows.append(["loop", f"{bare:.2f}", "1 x"])
    ratios = ", ".join(f"{each[0] / each[1]:.2f}" for each in rounds[1:])
    notes = f"Ratio of `download to rank` to the loop in each round: {ratios}. 512 channels, 10 components; "
    notes += "evidence: 200 permutations, 200 halves, 5 folds."
    title = f"layer4.1.conv2 of ResNet-18, {N_IMAGES} photographs of {SIDE} x {SIDE}"
    report("end_to_end", title, ["stage", "seconds", "relative to the loop"], rows, notes)


if __name__ == "__main__":
    main()
