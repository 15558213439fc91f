"""ablate: take each channel away, and ever more of random ones: what removal does, whatever the ranking.

Rankings of one layer, by other components, statistics or rankers, are all held against this one measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.artifacts import Ablations, Activations, FloatArray, ImageSet
from pipeline.networks.inputs import SMALL_INPUT, load_batch, to_input
from pipeline.networks.layers import layout
from pipeline.networks.load import load, resolve_device
from pipeline.networks.removal import Removal
from pipeline.networks.targets import target_scores
from pipeline.numerics.faithfulness import random_orders, removal_sets
from pipeline.progress import Progress
from pipeline.settings import ModelSettings, RemoveSettings, Settings, TargetSettings
from pipeline.stages.activate import batches

VERSION = 1


@dataclass(frozen=True)
class RemovalReads:
    """What removal reads, here and once there is a ranking."""

    remove: RemoveSettings
    model: ModelSettings
    layer: str
    target: TargetSettings
    target_class: int | None
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what decides the result beyond the upstream artifacts, whose keys hold network, layer and target."""
        return {"remove": asdict(self.remove), "seed": self.seed}


def select(settings: Settings) -> RemovalReads:
    """Pick what this stage reads; `settings` must be resolved."""
    return RemovalReads(
        settings.remove, settings.model, settings.layer, settings.target, settings.target_class, settings.seed
    )


def run(
    reads: RemovalReads, images: ImageSet, activations: Activations, *, folder: Path, progress: Progress
) -> Ablations:
    """Return what removal does, written below `folder`; nothing where nothing was to be removed."""
    varying = np.flatnonzero(activations.varying())
    sample = load_batch(images.paths[:1], reads.model, to_input(reads.model))
    when = reads.remove.when
    if when == "never" or not len(varying):
        return Ablations().save(folder)
    if when == "auto" and max(sample.shape[-2:]) > SMALL_INPUT:
        note = f"inputs are larger than {SMALL_INPUT} x {SMALL_INPUT} pixels; remove.when=always does it, in minutes"
        return Ablations(note=f"no channel removed: {note}").save(folder)
    n_channels = len(activations.maps)
    sets = removal_sets(random_orders(varying, reads.remove.n_draws, reads.seed), n_channels)
    each = np.eye(n_channels, dtype=bool)
    tasks = {mode: (each, mode) for mode in RemoveSettings.MODES}
    tasks |= {"untouched": (np.zeros_like(each[:1]), "zero"), "sets": (sets.reshape(-1, n_channels), reads.remove.mode)}
    found = class_scores(reads, images, activations, tasks, progress)
    return Ablations(
        changes=np.stack([found[mode] - found["untouched"] for mode in RemoveSettings.MODES]),
        random=found["sets"].mean(axis=1).reshape(sets.shape[:2]),
    ).save(folder)


def class_scores(
    reads: RemovalReads,
    images: ImageSet,
    activations: Activations,
    tasks: Mapping[str, tuple[NDArray[np.bool_], str]],
    progress: Progress,
) -> dict[str, FloatArray]:
    """Return every image's class score, (n_sets, n_images), for each task: sets of channels, (n_sets, n_channels), that
    are removed in one of the modes.
    """  # fmt: skip
    channels = layout(reads.model).find(reads.layer).channels
    assert channels is not None
    device, transform = resolve_device(reads.model), to_input(reads.model)
    network = load(reads.model, reads.seed).requires_grad_(False)
    score = partial(target_scores, target=reads.target, target_class=reads.target_class)
    sample = load_batch(images.paths[:3], reads.model, transform).to(device)
    removal = Removal(network, reads.layer, channels, score, sample)
    n_channels, n_images = activations.maps.shape[:2]
    found: dict[str, FloatArray] = {name: np.empty((len(removed), n_images)) for name, (removed, _) in tasks.items()}
    sets = {name: torch.from_numpy(removed).to(device) for name, (removed, _) in tasks.items()}
    means = torch.from_numpy(activations.means().mean(axis=1).astype(np.float32))
    order = np.random.default_rng(reads.seed).permutation(n_images)
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)  # every image's is another one
    n_done, n_total = 0, n_images * sum(len(removed) for removed, _ in tasks.values())
    for batch in batches(n_images, reads.model.batch_size):
        inputs = load_batch(images.paths[batch], reads.model, transform).to(device)
        fills = {
            "zero": torch.zeros((1, n_channels, 1, 1)),
            "mean": means[None, :, None, None],
            "resample": torch.from_numpy(activations.maps[:, partner[batch]]).transpose(0, 1),
        }

        def told(n_sets: int, n_inputs: int = len(inputs)) -> None:
            nonlocal n_done
            n_done += n_sets * n_inputs
            progress(n_done, n_total)

        at_batch = removal.at(inputs)
        for name, (_, mode) in tasks.items():
            found[name][:, batch] = at_batch.scores(sets[name], fills[mode].to(device), told).numpy()
    return found
