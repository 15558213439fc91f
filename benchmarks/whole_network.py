"""Time, memory and disk of ranking all convolutions of a network, side by side with a bare decode-and-forward loop.

``python -m benchmarks whole_network`` measures ResNet-18 with random weights on 300 photographs of 224 x 224 pixels, of
which noise takes the place. ``python -m benchmarks.whole_network OVERRIDE ...`` changes the settings, for example
``model=vgg16 network.disk_gib=4`` or ``n_images=30``. Each alternative runs in a process of its own, with an empty
store; the loop is measured before and after the others.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.end_to_end import bare_loop
from benchmarks.timing import report
from pipeline.config import compose_settings, register_resolvers
from pipeline.networks.remembered import remembered
from pipeline.observer import NetworkPlan, Observer
from pipeline.resolve import resolve
from pipeline.runner import LAYER_STAGES, Execution, store_of
from pipeline.settings import FolderSettings, Settings
from pipeline.whole_network import NetworkExecution

N_IMAGES, SIDE = 300, 256
OVERRIDES = (
    "model=resnet18", "model.weights=random", "model.transform.kind=resize", "data=folder", "class_name=noise",
    "target_class=281", f"n_images={N_IMAGES}", "tracking.enabled=false", "layer=${convolutions:}",
)  # fmt: skip
NO_EVIDENCE = ("score.permutations=0", "score.folds=0", "score.bootstrap=0")
TO_RANK = tuple(stage for stage in LAYER_STAGES if stage.name not in ("ablate", "evaluate", "visualize"))


class Printing(Observer):
    """Keeps the plan of a run."""

    sentence = ""

    def planned(self, plan: NetworkPlan) -> None:
        """Keep the plan in one line."""
        self.sentence = plan.sentence


def write_photographs(folder: Path, n_images: int) -> None:
    """Write JPEG files of smooth noise, which take as long to decode as photographs."""
    draw = np.random.default_rng(0)
    (folder / "noise").mkdir(parents=True)
    for index in range(n_images):
        coarse = Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / "noise" / f"{index:05d}.jpg", quality=92)


def loop(settings: Settings, n_images: int | None = None) -> str:
    """Decode all images, or some of them, and run the network on them, and keep nothing."""
    assert isinstance(settings.data, FolderSettings)
    bare_loop(settings, sorted(Path(settings.data.root).rglob("*.jpg"))[: n_images or settings.n_images])
    return ""


def whole_network(settings: Settings) -> str:
    """Rank all layers in one run, up to the tables of the network."""
    printing = Printing()
    with remembered():
        NetworkExecution(resolve(settings), Path(settings.paths.outputs) / "run", [printing], TO_RANK).run()
    return printing.sentence


def layer_by_layer(settings: Settings) -> str:
    """Rank the layers one after the other, as a sweep over the layers does, up to the ranking."""
    with remembered():
        layers = NetworkExecution(resolve(settings), Path(settings.paths.outputs) / "run").layers
    for layer in layers:
        single = resolve(compose_settings([*sys.argv[3:], f"layer={layer.name}"]))
        with store_of(single) as store:
            execution = Execution(single, store)
            execution.check()
            for stage in TO_RANK[:5]:
                execution.obtain(stage)
    return ""


ALTERNATIVES: dict[str, tuple[Callable[[Settings], str], tuple[str, ...]]] = {
    "bare decode-and-forward loop": (loop, ()),
    "whole network, to rank": (whole_network, NO_EVIDENCE),
    "whole network, with all evidence": (whole_network, ()),
    "layer by layer, to rank": (layer_by_layer, NO_EVIDENCE),
    "bare loop again": (loop, ()),
}


def measure(name: str, overrides: list[str]) -> None:
    """Run one alternative in this process, and print its seconds, peak memory in GiB and plan as JSON."""
    register_resolvers()
    settings = compose_settings(overrides)
    # Imports and compilation are no part of the comparison. The allocator of the loop is as a program starts with it.
    if ALTERNATIVES[name][0] is loop:
        loop(settings, 8)
    else:
        warm = compose_settings(["layer=conv1", "n_images=20", "n_components=1", *overrides[-1:]])
        with store_of(warm) as store:
            Execution(resolve(warm), store).obtain(TO_RANK[4])
    start = time.perf_counter()
    sentence = ALTERNATIVES[name][0](settings)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps([seconds, peak, sentence]))


def main(given: tuple[str, ...] = ()) -> None:
    """Measure all alternatives, print the table and write it."""
    with TemporaryDirectory() as scratch:
        n_images = next((int(text.split("=")[1]) for text in given if text.startswith("n_images=")), N_IMAGES)
        write_photographs(Path(scratch) / "photographs", n_images)
        found: dict[str, tuple[float, float, str, int]] = {}
        for number, (name, (_, own)) in enumerate(ALTERNATIVES.items()):
            outputs = Path(scratch) / str(number)
            overrides = [*OVERRIDES, f"data.root={scratch}/photographs", *own, *given, f"paths.outputs={outputs}"]
            command = [sys.executable, "-m", "benchmarks.whole_network", "measure", name, *overrides]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            seconds, peak, sentence = json.loads(printed)
            disk = sum(path.stat().st_size for path in outputs.rglob("*") if path.is_file())
            found[name] = seconds, peak, sentence, disk
            print(f"{name}: {seconds:.1f} s", flush=True)
    names = list(found)
    bare = (found[names[0]][0] + found[names[-1]][0]) / 2
    rows = [
        [name, f"{seconds:.1f}", f"{seconds / bare:.2f}", f"{peak:.1f}", f"{disk / 2**30:.2f}"]
        for name, (seconds, peak, _, disk) in found.items()
    ]
    settings = " ".join(given) or f"ResNet-18, {N_IMAGES} images of 224 x 224 pixels"
    report(
        "whole_network", f"All convolutions of a network: {settings}",
        ["what", "seconds", "times the bare loop", "peak memory, GiB", "disk, GiB"], rows,
        "\n".join(dict.fromkeys(sentence for _, _, sentence, _ in found.values() if sentence)),
    )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], sys.argv[3:])
    else:
        main(tuple(sys.argv[1:]))
