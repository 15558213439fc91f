"""ablate and evaluate by parts: each task computes the scores of a batch of images for a share of the sets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.artifacts import Ablations, Activations, Effects, ImageSet, Ranking
from pipeline.artifacts.base import save_array
from pipeline.engine.division import Division
from pipeline.engine.maps import images_of
from pipeline.engine.task import Shard
from pipeline.networks.channel_ablation import AblationTask, ChannelAblation, ablation_batches
from pipeline.networks.examined import NetworkRequest
from pipeline.settings import Settings
from pipeline.stages import ablate, evaluate
from pipeline.store.parts import write_part

TASKS = "tasks"  # folder with the sets of channels, which the command writes for the workers


def divided_ablate(division: Division, images: ImageSet, activations: Activations) -> Ablations:
    """Return the effects of ablation, independent of any ranking."""
    reads = ablate.select(division.settings)
    return ablate.effects(reads, images, activations, lambda tasks: _scores_of(division, activations, tasks))


def divided_evaluate(division: Division, activations: Activations, ablations: Ablations, ranking: Ranking) -> Effects:
    """Return the effects of ablation in the order of a ranking."""
    reads = ablate.select(division.settings)
    return evaluate.effects(reads, ablations, ranking, lambda tasks: _scores_of(division, activations, tasks))


def _scores_of(
    division: Division, activations: Activations, tasks: Mapping[str, AblationTask]
) -> Mapping[str, FloatArray]:
    """Return the class scores of all images for each set of channels of each task, from parts."""
    n_channels, n_images = activations.maps.shape[:2]
    batches = ablation_batches(activations, division.settings.model.batch_size)
    n_shares = -(-n_channels // division.engine.channels_per_task)
    if not (division.folder / TASKS).is_dir():
        write_part(division.folder / TASKS, lambda folder: _save(tasks, folder))
    spans = [(number, number + 1) for number in range(len(batches) * n_shares)]
    folders = division.each(
        "ablate", compute_ablation, spans, counts="passes", runs_network=True,
        tasks=str(division.folder / TASKS), n_shares=n_shares,
    )  # fmt: skip
    n_sets = {name: n_channels if task.sets is None else len(task.sets) for name, task in tasks.items()}
    found = {name: np.full((n_sets[name], n_images), np.nan) for name in tasks}
    for number, folder in enumerate(folders):
        bounds = json.loads((folder / "sets.json").read_text(encoding="utf-8"))
        for name, scores in found.items():
            scores[slice(*bounds[name]), batches[number // n_shares]] = np.load(folder / f"{name}.npy")
    return found


def compute_ablation(shard: Shard, folder: Path) -> None:
    """Write the class scores of one batch of images for a share of the sets of each task, and which sets these are."""
    settings, n_shares = shard.settings, shard.given["n_shares"]
    images, activations = images_of(shard.upstream["images"]), Activations.load(shard.upstream["activations"])
    inputs = NetworkRequest.of(settings).inputs(images)
    batch = ablation_batches(activations, settings.model.batch_size)[shard.start // n_shares]
    upstream = tuple(shard.upstream[name] for name in ("images", "activations"))
    found = _ablation(pickle.dumps(settings), *upstream).scores(
        batch, inputs.read(batch), _load(Path(shard.given["tasks"])), share=shard.start % n_shares, n_shares=n_shares
    )
    for name, (_, scores) in found.items():
        save_array(folder / f"{name}.npy", scores)
    bounds = {name: (sets.start, sets.stop) for name, (sets, _) in found.items()}
    (folder / "sets.json").write_text(json.dumps(bounds), encoding="utf-8")


@lru_cache(maxsize=1)
def _ablation(pickled: bytes, images: Path, activations: Path) -> ChannelAblation:
    """Return the network whose channels are ablated, which several tasks of a process use."""
    settings: Settings = pickle.loads(pickled)
    request = NetworkRequest.of(settings)
    return ChannelAblation(
        request.open(), request.inputs(images_of(images)), Activations.load(activations),
        batch_size=request.model.batch_size, seed=request.seed,
    )  # fmt: skip


def _save(tasks: Mapping[str, AblationTask], folder: Path) -> None:
    for name, task in tasks.items():
        if task.sets is not None:
            save_array(folder / f"{name}.npy", task.sets)
    modes = {name: task.mode for name, task in tasks.items()}
    (folder / "modes.json").write_text(json.dumps(modes), encoding="utf-8")


def _load(folder: Path) -> dict[str, AblationTask]:
    modes = json.loads((folder / "modes.json").read_text(encoding="utf-8"))
    files = {name: folder / f"{name}.npy" for name in modes}
    return {name: AblationTask(np.load(files[name]) if files[name].exists() else None, modes[name]) for name in modes}
