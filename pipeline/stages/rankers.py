"""Part of score: the rankers that PCACE is held against, each a number a channel from any of the images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.artifacts import Activations, ChannelScores, FloatArray, ImageSet, Projections
from pipeline.networks.contributions import contributions, weight_norms
from pipeline.networks.inputs import load_batch, to_input
from pipeline.networks.layers import layout
from pipeline.networks.load import load, resolve_device
from pipeline.networks.targets import target_scores
from pipeline.numerics.association import distance_correlation, multiple_correlation, mutual_information, pearson
from pipeline.numerics.evidence import halves
from pipeline.progress import Progress
from pipeline.score_settings import PathRankerSettings, has_halves
from pipeline.stages.activate import batches

if TYPE_CHECKING:
    from pipeline.stages.score import ScoreReads

Scorer = Callable[[NDArray[np.int64]], FloatArray]  # from indices of images to every channel's score


def scores_by_ranker(
    reads: ScoreReads, images: ImageSet, activations: Activations, projections: Projections, progress: Progress
) -> ChannelScores:
    """Return every channel's score by ``score.kind``, its rank's interval, and how far halves of the images agree."""
    score, dead, n_images = reads.score, projections.dead, len(images)
    living, n_channels = np.flatnonzero(~dead), len(dead)
    scorer = _scorer(reads, images, activations, projections, progress)
    values = np.where(dead, 0.0, scorer(np.arange(n_images)))
    evidence, curve = pd.DataFrame(index=living), np.empty((0, 2))
    if has_halves(score, n_images):
        n_done = 0

        def tick() -> None:
            nonlocal n_done
            n_done += 1
            progress(n_channels * n_done // (score.bootstrap // 2), n_channels)

        found = halves(
            lambda chosen: {score.kind: scorer(chosen)[living]}, n_images, score.bootstrap,
            seed=reads.seed, top_k=score.top_k, tick=tick,
        )[score.kind]  # fmt: skip
        evidence = evidence.assign(**found.columns)
        curve = found.curve
    return ChannelScores(
        {score.kind: values}, dead, {score.kind: evidence.reindex(range(n_channels))}, {score.kind: curve}
    )


def _scorer(
    reads: ScoreReads, images: ImageSet, activations: Activations, projections: Projections, progress: Progress
) -> Scorer:
    kind, class_score = reads.score.kind, activations.class_score
    values = projections.values
    if kind == "multiple_correlation":
        return lambda chosen: multiple_correlation(values[:, chosen], class_score[chosen])
    if kind == "distance_correlation":
        return lambda chosen: distance_correlation(values[:, chosen], class_score[chosen])
    if kind == "weight_norm":
        module = load(reads.model, reads.seed).get_submodule(reads.layer)
        norms = weight_norms(module, len(values))
        return lambda _chosen: norms
    if kind in ("pearson", "mutual_information", "mean_activation"):
        means = activations.means()
        if kind == "pearson":
            return lambda chosen: pearson(means[:, chosen], class_score[chosen])
        if kind == "mutual_information":
            return lambda chosen: mutual_information(means[:, chosen], class_score[chosen], reads.seed)
        return lambda chosen: means[:, chosen].mean(axis=1)
    magnitudes = np.abs(_contributions(reads, images, progress))
    return lambda chosen: magnitudes[:, chosen].mean(axis=1)


def _contributions(reads: ScoreReads, images: ImageSet, progress: Progress) -> FloatArray:
    """Return what each channel adds to each image's class score, (n_channels, n_images)."""
    network = load(reads.model, reads.seed).requires_grad_(False)
    layer, device, transform = layout(reads.model).find(reads.layer), resolve_device(reads.model), to_input(reads.model)
    score = partial(target_scores, target=reads.target, target_class=reads.target_class)
    n_steps = reads.score.n_steps if isinstance(reads.score, PathRankerSettings) else None
    sample = load_batch(images.paths[:3], reads.model, transform).to(device)
    contributed = contributions(reads.score.kind, network, layer, score, sample, n_steps)
    n_channels, found = layer.maps[0], []
    for batch in batches(len(images), reads.model.batch_size):
        found.append(contributed(load_batch(images.paths[batch], reads.model, transform).to(device)))
        progress(n_channels * batch.stop // len(images), n_channels)
    return torch.cat(found).T.numpy()
