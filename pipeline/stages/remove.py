"""remove: take each channel away, and the best, the last and random ones together; see how the class score moves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.artifacts import Activations, Effects, Faithfulness, FloatArray, ImageSet, Ranking
from pipeline.networks.inputs import SMALL_INPUT, load_batch, to_input
from pipeline.networks.layers import layout
from pipeline.networks.load import load, resolve_device
from pipeline.networks.removal import Removal
from pipeline.networks.targets import target_scores
from pipeline.numerics.faithfulness import area, rank_correlation, removal_curves, removal_sets
from pipeline.settings import ModelSettings, RemoveSettings, Settings, TargetSettings
from pipeline.sources.base import Progress
from pipeline.stages.activate import batches

VERSION = 1


@dataclass(frozen=True)
class RemoveReads:
    """What the stage reads."""

    remove: RemoveSettings
    model: ModelSettings
    layer: str
    target: TargetSettings
    target_class: int | None
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return what decides the result beyond the upstream artifacts, whose keys hold network, layer and target."""
        return {"remove": asdict(self.remove), "seed": self.seed}


def select(settings: Settings) -> RemoveReads:
    """Pick what this stage reads; `settings` must be resolved."""
    return RemoveReads(
        settings.remove, settings.model, settings.layer, settings.target, settings.target_class, settings.seed
    )


def run(
    reads: RemoveReads,
    images: ImageSet,
    activations: Activations,
    ranking: Ranking,
    *,
    folder: Path,
    progress: Progress,
) -> Effects:
    """Return the effects of removal, written below `folder`; without a table where nothing was to be removed."""
    living = ranking.table[~ranking.table.dead]
    sample = load_batch(images.paths[:3], reads.model, to_input(reads.model))
    when = reads.remove.when
    if when == "never" or not len(living):
        return Effects().save(folder)
    if when == "auto" and max(sample.shape[-2:]) > SMALL_INPUT:
        note = f"inputs are larger than {SMALL_INPUT} x {SMALL_INPUT} pixels; remove.when=always does it, in minutes"
        return Effects(note=f"no channel removed: {note}").save(folder)
    order = living.channel.to_numpy()
    sets = removal_sets(order, len(ranking.table), reads.remove.n_draws, reads.seed)
    found = _class_scores(reads, images, activations, sets.reshape(-1, sets.shape[-1]), sample, progress)
    table = living[["rank", "channel", "score"]].reset_index(drop=True)
    for mode in RemoveSettings.MODES:
        moved = (found[mode] - found["untouched"])[order]
        table[mode], table[f"{mode}_signed"] = np.abs(moved).mean(axis=1), moved.mean(axis=1)
    curves = removal_curves(found["sets"].mean(axis=1).reshape(sets.shape[:2]), len(order))
    faithfulness = Faithfulness(
        spearman=rank_correlation(table.score.to_numpy(), table.zero.to_numpy()),
        **{f"{name}_area": area(curves, f"{name}_top") for name in ("deletion", "insertion")},
        **{f"random_{name}_area": area(curves, f"{name}_random") for name in ("deletion", "insertion")},
        mode=reads.remove.mode,
    )
    return Effects(table, curves, faithfulness).save(folder)


def _class_scores(
    reads: RemoveReads,
    images: ImageSet,
    activations: Activations,
    sets: NDArray[np.bool_],
    sample: torch.Tensor,
    progress: Progress,
) -> dict[str, FloatArray]:
    """Return every image's class score: untouched, (1, n_images); with each channel removed in each of the modes,
    (n_channels, n_images); with each of `sets` removed, (n_sets, n_images).
    """  # fmt: skip
    channels = layout(reads.model).find(reads.layer).channels
    assert channels is not None
    device, transform = resolve_device(reads.model), to_input(reads.model)
    network = load(reads.model, reads.seed).requires_grad_(False)
    score = partial(target_scores, target=reads.target, target_class=reads.target_class)
    removal = Removal(network, reads.layer, channels, score, sample.to(device))
    n_channels, n_images = activations.maps.shape[:2]
    each = torch.eye(n_channels, dtype=torch.bool, device=device)
    tasks = {"untouched": (torch.zeros_like(each[:1]), "zero"), **{mode: (each, mode) for mode in RemoveSettings.MODES}}
    tasks["sets"] = torch.from_numpy(sets).to(device), reads.remove.mode
    found: dict[str, FloatArray] = {name: np.empty((len(removed), n_images)) for name, (removed, _) in tasks.items()}
    means = torch.tensor([float(np.mean(maps, dtype=np.float64)) for maps in activations.maps], dtype=torch.float32)
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
        for name, (removed, mode) in tasks.items():
            found[name][:, batch] = at_batch.scores(removed, fills[mode].to(device), told).numpy()
    return found
