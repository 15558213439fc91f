"""Rankers whose scores can be computed from any subset of the images. They are compared with PCACE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from pipeline.artifacts import ChannelScores
from pipeline.errors import NetworkError
from pipeline.networks.contributed import Contributed, Contributions
from pipeline.networks.inputs import batches, bounded_batch_size
from pipeline.numerics.evidence import halves, one_by_one
from pipeline.progress import ticker
from pipeline.rankers.ranker import RankerInputs, Scorer
from pipeline.settings import HalvesSettings, OtherSettings, has_halves

# Largest error of completeness, as a share of the change of the class score, and what to do where it is larger.
# DeepLIFT is exact, so that a larger error means that a rule is missing; that of the others decreases with more steps.
MAX_ERRORS = {
    "deeplift": (0.01, "Choose another ranker, for example score=integrated_gradients."),
    "conductance": (0.2, "Raise score.n_steps."),
    "integrated_gradients": (0.2, "Raise score.n_steps."),
}

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


def mean_magnitude(inputs: RankerInputs[OtherSettings], contributions: Contributions) -> Scorer:
    """Return the scorer that computes the mean magnitude of each channel's contributions over the images.

    Contributions of a complete method are compared with the change of the class score, first for one batch.

    Parameters
    ----------
    inputs : RankerInputs
        The data.
    contributions : callable
        From a batch of inputs to the contributions. It is called here, once for each batch.

    Raises
    ------
    NetworkError
        If the contributions of a complete method do not sum to the change of the class score, or if all are 0.
    """
    n_channels, found = len(inputs.projections.dead), []
    n_values = inputs.activations.maps[:, 0].size
    error = None
    for batch, images in batches(inputs.images, bounded_batch_size(inputs.batch_size, n_values)):
        found.append(contributions(images))
        error = _checked_error(found, inputs.settings.kind)
        inputs.progress(n_channels * batch.stop // len(inputs.images), n_channels)
    magnitudes = np.abs(torch.cat([each.channels for each in found]).T.numpy())
    if not magnitudes.any():
        raise NetworkError(
            f"contributions must not all be 0 for score={inputs.settings.kind}; got 0 for every image and each of the "
            f"{n_channels} channels (the gradient of the class score may be 0). Choose another ranker, for example "
            "score=pearson."
        )
    return Scorer(lambda chosen: magnitudes[:, chosen].mean(axis=1), error)


def _checked_error(found: Sequence[Contributed], kind: str) -> float | None:
    """Return the error of completeness of all batches so far, see `Scorer`.

    Raises
    ------
    NetworkError
        If it is larger than `MAX_ERROR`.
    """
    sums = [each.sums for each in found if each.sums is not None]
    if not sums:
        return None
    apart, change = (sum(float(each.sum()) for each in parts) for parts in (
        [each.error for each in sums], [each.change.abs() for each in sums],
    ))  # fmt: skip
    error = apart / change if apart else 0.0
    limit, remedy = MAX_ERRORS[kind]
    if not error <= limit:
        raise NetworkError(
            f"contributions must sum to the change of the class score within {limit:.0%} for score={kind}; got a "
            f"difference of {error:.3g} times that change. {remedy}"
        )
    return error
