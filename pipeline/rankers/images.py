"""Rankers whose scores can be computed from any subset of the images. They are compared with PCACE."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from pipeline.artifacts import ChannelScores
from pipeline.networks.contributions import Contributions
from pipeline.networks.inputs import batches
from pipeline.numerics.evidence import halves
from pipeline.progress import ticker
from pipeline.rankers.ranker import RankerInputs, Scorer
from pipeline.settings import HalvesSettings, has_halves

SettingsT = TypeVar("SettingsT", bound=HalvesSettings)


def score_by_images(
    kind: str, scorer: Callable[[RankerInputs[SettingsT]], Scorer], inputs: RankerInputs[SettingsT]
) -> ChannelScores:
    """Return each channel's score, the confidence interval of its rank, and the split-half reliability.

    Parameters
    ----------
    kind : str
        Name of the ranker, and of its only statistic.
    scorer : callable
        From the inputs to the function that scores the channels with subsets of the images.
    inputs : RankerInputs
        The data.
    """
    settings, dead, n_images = inputs.settings, inputs.projections.dead, len(inputs.images)
    varying, n_channels = np.flatnonzero(~dead), len(dead)
    score = scorer(inputs)
    values = np.where(dead, 0.0, score(np.arange(n_images)))
    evidence, curve = pd.DataFrame(index=varying), np.empty((0, 2))
    if has_halves(settings, inputs.n_different):
        found = halves(
            lambda chosen: {kind: score(chosen)[varying]}, n_images, settings.bootstrap,
            seed=inputs.seed, top_k=settings.top_k, groups=inputs.copies,
            tick=ticker(inputs.progress, settings.bootstrap // 2, n_channels),
        )[kind]  # fmt: skip
        evidence = evidence.assign(**found.columns)
        curve = found.curve
    return ChannelScores({kind: values}, dead, {kind: evidence.reindex(range(n_channels))}, {kind: curve})


def mean_magnitude(inputs: RankerInputs[HalvesSettings], contributions: Contributions) -> Scorer:
    """Return the scorer that computes the mean magnitude of each channel's contributions over the images.

    Parameters
    ----------
    inputs : RankerInputs
        The data.
    contributions : callable
        From a batch of inputs to the contributions, (n_images, n_channels). It is called here, once for each batch.
    """
    n_channels, found = len(inputs.projections.dead), []
    for batch, images in batches(inputs.images, inputs.batch_size):
        found.append(contributions(images))
        inputs.progress(n_channels * batch.stop // len(inputs.images), n_channels)
    magnitudes = np.abs(torch.cat(found).T.numpy())
    return lambda chosen: magnitudes[:, chosen].mean(axis=1)
