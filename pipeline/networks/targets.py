"""Which number of a network's output is the score: a class's logit, probability or margin, or a regression's output."""

from __future__ import annotations

import torch

from pipeline.errors import NetworkError
from pipeline.settings import RegressionTarget, TargetSettings


def output_index(target: TargetSettings, target_class: int | None) -> int:
    """Return which of the network's outputs is asked for."""
    if isinstance(target, RegressionTarget):
        return target.output
    assert target_class is not None  # resolved
    return target_class


def check_target(target: TargetSettings, n_outputs: int) -> None:
    """Raise `NetworkError` where a network of `n_outputs` outputs has no such score."""
    if isinstance(target, RegressionTarget):
        if target.output >= n_outputs:
            raise NetworkError(f"target.output must be in [0, {n_outputs - 1}]; got {target.output}.")
    elif target.score == "margin" and n_outputs == 1:
        raise NetworkError(
            "target.score must be logit or probability for a network with one output; got margin, "
            "which compares with other classes."
        )


def target_scores(outputs: torch.Tensor, target: TargetSettings, target_class: int | None) -> torch.Tensor:
    """Return every image's score, (n,), float64, from a network's outputs, (n, n_outputs) or (n,).

    ``logit``: output_k, unbounded; ``probability``: softmax(output)_k, in [0, 1], for a network with one output its
    logistic function; ``margin``: output_k - max(output_j, j != k), unbounded, above 0 where k is the best class.
    """
    index, outputs = output_index(target, target_class), outputs.double()
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if isinstance(target, RegressionTarget) or target.score == "logit":
        return outputs[:, index]
    if target.score == "probability":
        return (outputs.softmax(dim=1) if outputs.shape[1] > 1 else outputs.sigmoid())[:, index]
    others = outputs.clone()
    others[:, index] = -torch.inf
    return outputs[:, index] - others.amax(dim=1)
