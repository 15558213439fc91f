"""ablate and evaluate by parts: each task computes the scores of a batch of images for a share of the sets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import FloatArray, Int64Array
from pipeline.artifacts import Ablations, Activations, Effects, ImageSet, Ranking
from pipeline.artifacts.base import save_array
from pipeline.engine.division import Division
from pipeline.engine.task import Shard, images_of
from pipeline.networks.ablation import Ablation
from pipeline.networks.backends import fixed_backends
from pipeline.networks.channel_ablation import AblationTask, ChannelAblation, ablation_batches
from pipeline.networks.examined import NetworkRequest
from pipeline.networks.memory import reported_memory
from pipeline.settings import Settings
from pipeline.stages import ablate, evaluate
from pipeline.store.parts import write_part

CHOSEN = "chosen.npy"  # the images that are used, if not all are
TASKS = "tasks"  # folder with the sets of channels, which the command writes for the workers


@fixed_backends()
@reported_memory()
def divided_ablate(division: Division, images: ImageSet, activations: Activations) -> Ablations:
    """Return the effects of ablation, independent of any ranking."""
    reads = ablate.select(division.settings)
    return ablate.effects(reads, images, activations, lambda *given: _scores_of(division, activations, *given))


def divided_evaluate(division: Division, activations: Activations, ablations: Ablations, ranking: Ranking) -> Effects:
    """Return the effects of ablation in the order of a ranking."""
    reads = ablate.select(division.settings)
    return evaluate.effects(
        reads, activations, ablations, ranking, lambda *given: _scores_of(division, activations, *given)
    )


def _scores_of(
    division: Division,
    activations: Activations,
    tasks: Mapping[str, AblationTask],
    chosen: Int64Array | None,
    _ablation: Ablation | None,
) -> Mapping[str, FloatArray]:
    """Return the class scores of images for each set of channels of each task, from parts."""
    n_channels, n_all = activations.maps.shape[:2]
    n_images = n_all if chosen is None else len(chosen)
    batches = ablation_batches(activations, division.settings.model.batch_size, n_images)
    n_shares = -(-n_channels // division.engine.channels_per_task)
    write_part(division.folder / TASKS, lambda folder: _save(tasks, chosen, folder))
    spans = [(number, number + 1) for number in range(len(batches) * n_shares)]
    folders = division.each("ablate", compute_ablation, spans, counts="passes", runs_network=True, n_shares=n_shares)
    n_sets = {name: len(task.singles(n_channels) if task.sets is None else task.sets) for name, task in tasks.items()}
    found: dict[str, FloatArray] = {name: np.full((n_sets[name], n_images), np.nan) for name in tasks}
    for number, folder in enumerate(folders):
        bounds = json.loads((folder / "sets.json").read_text(encoding="utf-8"))
        for name, scores in found.items():
            scores[slice(*bounds[name]), batches[number // n_shares]] = np.load(folder / f"{name}.npy")
    return found


@fixed_backends()
@reported_memory()
def compute_ablation(shard: Shard, folder: Path) -> None:
    """Write the class scores of one batch of images for a share of the sets of each task, and which sets these are."""
    settings, n_shares, tasks = shard.settings, shard.given["n_shares"], folder.parent / TASKS
    images, activations = shard.upstream["images"], shard.upstream["activations"]
    ablation = _ablation(pickle.dumps(settings), images, activations, tasks)
    batches = ablation_batches(Activations.load(activations), settings.model.batch_size, len(ablation.inputs))
    batch = batches[shard.start // n_shares]
    found = ablation.scores(
        batch, ablation.inputs.read(batch), _load(tasks), share=shard.start % n_shares, n_shares=n_shares
    )
    for name, (_, scores) in found.items():
        save_array(folder / f"{name}.npy", scores)
    bounds = {name: (sets.start, sets.stop) for name, (sets, _) in found.items()}
    (folder / "sets.json").write_text(json.dumps(bounds), encoding="utf-8")


@lru_cache(maxsize=1)
def _ablation(pickled: bytes, images: Path, activations: Path, tasks: Path) -> ChannelAblation:
    """Return the network whose channels are ablated, which several tasks of a process use."""
    settings: Settings = pickle.loads(pickled)
    request = NetworkRequest.of(settings)
    return ChannelAblation(
        request.open(), request.inputs(images_of(images)), Activations.load(activations),
        batch_size=request.model.batch_size, seed=request.seed,
        chosen=np.load(tasks / CHOSEN) if (tasks / CHOSEN).exists() else None,
    )  # fmt: skip


def _save(tasks: Mapping[str, AblationTask], chosen: Int64Array | None, folder: Path) -> None:
    arrays: dict[str, Any] = {f"{name}.sets.npy": task.sets for name, task in tasks.items()}
    arrays |= {f"{name}.channels.npy": task.channels for name, task in tasks.items()}
    for name, array in {**arrays, CHOSEN: chosen}.items():
        if array is not None:
            save_array(folder / name, array)
    modes = {name: task.mode for name, task in tasks.items()}
    (folder / "modes.json").write_text(json.dumps(modes), encoding="utf-8")


def _load(folder: Path) -> dict[str, AblationTask]:
    modes = json.loads((folder / "modes.json").read_text(encoding="utf-8"))

    def array(name: str) -> Any:
        return np.load(folder / name) if (folder / name).exists() else None

    return {name: AblationTask(array(f"{name}.sets.npy"), modes[name], array(f"{name}.channels.npy")) for name in modes}
