"""evaluate: ablate the first and the last channels of a ranking together, and compute its faithfulness."""

from __future__ import annotations

import numpy as np

from pipeline.artifacts import Ablations, Activations, Effects, Faithfulness, ImageSet, Ranking
from pipeline.progress import Progress
from pipeline.settings import AblateSettings
from pipeline.stages.ablate import AblateReads, select
from pipeline.stages.stage import Stage


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
    from pipeline.networks.channel_ablation import AblationTask, ablated_scores
    from pipeline.numerics.faithfulness import ablation_curves, ablation_sets, area, rank_correlation

    if not ablations.is_measured:
        return Effects(note=ablations.note)
    varying = ranking.table[~ranking.table.dead]
    order = varying.channel.to_numpy()
    table = varying[["rank", "channel", "score"]].reset_index(drop=True)
    for mode, changes in zip(AblateSettings.MODES, ablations.changes[:, order], strict=True):
        table[mode], table[f"{mode}_signed"] = np.abs(changes).mean(axis=1), changes.mean(axis=1)
    sets = ablation_sets(np.stack([order, order[::-1]]), len(ranking.table))
    tasks = {"sets": AblationTask(sets.reshape(-1, sets.shape[-1]), reads.ablate.mode)}
    request = reads.network
    found = ablated_scores(
        request.open(), request.inputs(images), activations, tasks,
        batch_size=request.model.batch_size, seed=request.seed, progress=progress,
    )["sets"]  # fmt: skip
    curves = ablation_curves(found.mean(axis=1).reshape(sets.shape[:2]), ablations.random, len(order))
    faithfulness = Faithfulness(
        spearman=rank_correlation(table.score.to_numpy(), table.zero.to_numpy()),
        **{f"{name}_area": area(curves, f"{name}_top") for name in ("deletion", "insertion")},
        **{f"random_{name}_area": area(curves, f"{name}_random") for name in ("deletion", "insertion")},
        mode=reads.ablate.mode,
    )
    return Effects(table, curves, faithfulness)


STAGE = Stage("evaluate", 2, "passes", Effects, select, run)
