"""evaluate: ablate the first and the last channels of a ranking together, and compute its faithfulness.

If the stage `ablate` has ablated a random sample of the channels only, as many of the best channels are ablated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.arrays import FloatArray, Int64Array
from pipeline.artifacts import Ablations, Activations, Effects, Faithfulness, ImageSet, Ranking
from pipeline.progress import Progress
from pipeline.settings import AblateSettings
from pipeline.stages.ablate import AblateReads, ScoresOf, ablation_scores, select
from pipeline.stages.stage import Stage

if TYPE_CHECKING:
    from pipeline.networks.ablation import Ablation
    from pipeline.networks.channel_ablation import AblationTask


def run(
    reads: AblateReads,
    *,
    images: ImageSet,
    activations: Activations,
    ablations: Ablations,
    ranking: Ranking,
    progress: Progress,
) -> Effects:
    """Return the effects of ablation in the order of the ranking, and its faithfulness.

    They are empty if the stage `ablate` did not ablate any channel.
    """

    def scores_of(
        tasks: Mapping[str, AblationTask], chosen: Int64Array | None, ablation: Ablation | None
    ) -> Mapping[str, FloatArray]:
        return ablation_scores(reads, images, activations, tasks, chosen, ablation, progress)

    return effects(reads, activations, ablations, ranking, scores_of)


def effects(
    reads: AblateReads, activations: Activations, ablations: Ablations, ranking: Ranking, scores_of: ScoresOf
) -> Effects:
    """Return the effects of ablation; `scores_of` computes the class scores if channels were ablated."""
    from pipeline.networks.channel_ablation import AblationTask
    from pipeline.numerics.ablation_plan import evenly_spaced
    from pipeline.numerics.faithfulness import ablation_curves, ablation_sets

    if not ablations.is_measured:
        return Effects(note=ablations.note)
    varying = ranking.table[~ranking.table.dead]
    order, n_varying = varying.channel.to_numpy(), len(varying)
    request, changes = reads.network, ablations.changes.copy()
    n_channels, n_images = changes.shape[1:]
    n_all = activations.maps.shape[1]
    is_ablated = ablations.is_ablated
    is_sampled = not is_ablated.all()
    best = order[: is_ablated.sum()] if is_sampled else order
    missing = np.sort(best[~is_ablated[best]])
    tasks: dict[str, AblationTask] = {}
    if len(missing):
        tasks["untouched"] = AblationTask(np.zeros((1, n_channels), dtype=bool), "zero")
        tasks |= {mode: AblationTask(None, mode, missing) for mode in AblateSettings.MODES[: ablations.n_modes]}
    n_steps = _n_steps(ablations, n_varying)
    if n_steps:
        sets = ablation_sets(np.stack([order, order[::-1]]), n_channels, n_steps)
        tasks["sets"] = AblationTask(sets.reshape(-1, n_channels), reads.ablate.mode)
    chosen = evenly_spaced(n_all, n_images) if n_images < n_all else None
    found = scores_of(tasks, chosen, None) if tasks else {}
    for place, mode in enumerate(AblateSettings.MODES):
        if mode in found:
            changes[place, missing] = found[mode] - found["untouched"]
    table = varying[["rank", "channel", "score"]].reset_index(drop=True)
    for mode, of_mode in zip(AblateSettings.MODES, changes[:, order], strict=True):
        table[mode], table[f"{mode}_signed"] = np.abs(of_mode).mean(axis=1), of_mode.mean(axis=1)
    faithfulness = Faithfulness(
        n_channels=int(table.zero.notna().sum()),
        n_varying=n_varying,
        n_best=len(best) if is_sampled else None,
        n_images=n_images,
        n_all_images=n_all,
        mode=reads.ablate.mode if n_steps else None,
        **_agreement(table, changes[0, order], len(best), request.seed),
    )
    if not n_steps:
        return Effects(table, faithfulness=faithfulness, note=ablations.note)
    ranked = found["sets"].reshape(*sets.shape[:2], n_images)
    curves = ablation_curves(found["sets"].mean(axis=1).reshape(sets.shape[:2]), ablations.random, n_varying, n_steps)
    return Effects(
        table, curves, replace(faithfulness, **_areas(curves, ranked, n_varying, n_steps, request.seed)), ablations.note
    )


def _n_steps(ablations: Ablations, n_varying: int) -> int:
    """Return the number of steps of the curves with random orders, 0 if there are none."""
    from pipeline.numerics.ablation_plan import FEW_STEPS
    from pipeline.numerics.faithfulness import N_STEPS, ablation_counts

    n_points = ablations.random.shape[1]
    steps = (n_steps for n_steps in (N_STEPS, FEW_STEPS) if len(ablation_counts(n_varying, n_steps)) == n_points)
    return next(steps) if n_points else 0


def _agreement(table: pd.DataFrame, changes: FloatArray, n_best: int, seed: int) -> dict[str, Any]:
    """Return the rank correlation of the scores with the effects, and its confidence interval."""
    from pipeline.numerics.sampled_effects import agreement

    is_measured = table.zero.notna().to_numpy()
    is_best = np.arange(len(table)) < n_best
    found = agreement(
        table.score.to_numpy()[is_measured], changes[is_measured], is_best[is_measured], len(table) - n_best, seed
    )
    return {"spearman": found.value, "spearman_low": found.low, "spearman_high": found.high}


def _areas(curves: pd.DataFrame, ranked: FloatArray, n_varying: int, n_steps: int, seed: int) -> dict[str, Any]:
    """Return the areas under the curves, and the confidence intervals of those of the ranking over the images.

    Parameters
    ----------
    curves : DataFrame
        The curves.
    ranked : ndarray of shape (2, n_points, n_images)
        Class scores of each image for the sets of the ranking and of the reversed ranking.
    n_varying, n_steps : int
        Number of channels that are ablated in total, and number of steps.
    seed : int
        Seed of the bootstrap.
    """
    from pipeline.numerics.faithfulness import ablation_counts, area, area_under, normalised
    from pipeline.numerics.sampled_effects import over_images

    areas: dict[str, Any] = {}
    counts = ablation_counts(n_varying, n_steps)
    for name in ("deletion", "insertion"):

        def again(images: Int64Array, name: str = name) -> float | None:
            means = ranked[..., images].mean(axis=2)
            deletion_top, deletion_bottom, _ = normalised(np.concatenate([means, means[:1]]))
            # The insertion curve of the first channels is the deletion curve of the last channels, read from its end.
            curve = deletion_top if name == "deletion" else np.ascontiguousarray(deletion_bottom[::-1])
            return area_under(curve, counts)

        found = over_images(area(curves, f"{name}_top"), again, ranked.shape[2], seed)
        areas[f"{name}_area"], areas[f"{name}_area_low"], areas[f"{name}_area_high"] = found
        areas[f"random_{name}_area"] = area(curves, f"{name}_random")
    return areas


STAGE = Stage("evaluate", 3, "passes", Effects, select, run)
