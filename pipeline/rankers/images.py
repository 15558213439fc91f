"""Rankers whose scores can be computed from any subset of the images. They are compared with PCACE."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pandas as pd

from pipeline.artifacts import ChannelScores
from pipeline.errors import NetworkError
from pipeline.networks.contributed import ContributionsOfLayers
from pipeline.networks.inputs import bounded_batch_size
from pipeline.numerics.evidence import halves, one_by_one
from pipeline.progress import ticker
from pipeline.rankers import shared
from pipeline.rankers.ranker import RankerInputs, Scorer
from pipeline.settings import HalvesSettings, OtherSettings, has_halves

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
            one_by_one(lambda chosen: {kind: score(chosen)[varying]}), n_images, settings.bootstrap,
            seed=inputs.seed, top_k=settings.top_k, groups=inputs.copies,
            tick=ticker(inputs.progress, settings.bootstrap // 2, n_channels),
        )[kind]  # fmt: skip
        evidence = evidence.assign(**found.columns)
        curve = found.curve
    return ChannelScores(
        {kind: values}, dead, {kind: evidence.reindex(range(n_channels))}, {kind: curve},
        completeness_error=score.completeness_error,
    )  # fmt: skip


def mean_magnitude(inputs: RankerInputs[OtherSettings], contributions: ContributionsOfLayers) -> Scorer:
    """Return the scorer that computes the mean magnitude of each channel's contributions over the images.

    Contributions that have been computed together with those of other layers are used, see
    `pipeline.rankers.shared.using`.

    Parameters
    ----------
    inputs : RankerInputs
        The data.
    contributions : callable
        From a batch of inputs to the contributions for one layer.

    Raises
    ------
    NetworkError
        If the contributions of a complete method do not sum to the change of the class score, or if all are 0.
    """
    n_channels, kind = len(inputs.projections.dead), inputs.settings.kind

    def progress(done: int, total: int) -> None:
        inputs.progress(n_channels * done // total, n_channels)

    found = shared.in_use()
    if found is None:
        batch_size = bounded_batch_size(inputs.batch_size, inputs.activations.maps[:, 0].size)
        (found,) = shared.attributed(contributions, 1, kind, inputs.images, batch_size, progress)
    if isinstance(found, NetworkError):
        raise found
    magnitudes = np.abs(found.contributions)
    if not magnitudes.any():
        raise NetworkError(
            f"contributions must not all be 0 for score={kind}; got 0 for every image and each of the "
            f"{n_channels} channels (the gradient of the class score may be 0). Choose another ranker, for example "
            "score=pearson."
        )
    return Scorer(lambda chosen: magnitudes[:, chosen].mean(axis=1), found.completeness_error)
