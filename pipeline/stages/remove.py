"""remove: take the best and the last channels away together, and say how far removal bears the ranking out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.artifacts import Ablations, Activations, Effects, Faithfulness, ImageSet, Ranking
from pipeline.numerics.faithfulness import area, rank_correlation, removal_curves, removal_sets
from pipeline.progress import Progress
from pipeline.settings import RemoveSettings
from pipeline.stages.ablate import RemovalReads, class_scores, select

__all__ = ["VERSION", "run", "select"]

VERSION = 2


def run(
    reads: RemovalReads,
    images: ImageSet,
    activations: Activations,
    ablations: Ablations,
    ranking: Ranking,
    *,
    folder: Path,
    progress: Progress,
) -> Effects:
    """Return the effects of removal, written below `folder`; without a table where nothing was removed."""
    if not ablations.is_measured:
        return Effects(note=ablations.note).save(folder)
    living = ranking.table[~ranking.table.dead]
    order = living.channel.to_numpy()
    table = living[["rank", "channel", "score"]].reset_index(drop=True)
    for mode, changes in zip(RemoveSettings.MODES, ablations.changes[:, order], strict=True):
        table[mode], table[f"{mode}_signed"] = np.abs(changes).mean(axis=1), changes.mean(axis=1)
    sets = removal_sets(np.stack([order, order[::-1]]), len(ranking.table))
    tasks = {"sets": (sets.reshape(-1, sets.shape[-1]), reads.remove.mode)}
    found = class_scores(reads, images, activations, tasks, progress)["sets"].mean(axis=1).reshape(sets.shape[:2])
    curves = removal_curves(found, ablations.random, len(order))
    faithfulness = Faithfulness(
        spearman=rank_correlation(table.score.to_numpy(), table.zero.to_numpy()),
        **{f"{name}_area": area(curves, f"{name}_top") for name in ("deletion", "insertion")},
        **{f"random_{name}_area": area(curves, f"{name}_random") for name in ("deletion", "insertion")},
        mode=reads.remove.mode,
    )
    return Effects(table, curves, faithfulness).save(folder)
