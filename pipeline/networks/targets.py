"""The class score of an image: the logit, probability or margin of a class, or one output of a regression network."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, assert_never

from pipeline.errors import NetworkError
from pipeline.settings import ClassTarget, RegressionTarget, TargetSettings

if TYPE_CHECKING:
    import torch

Score: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"


def output_index(target: TargetSettings, target_class: int | None) -> int:
    """Return the index of the output that the target refers to; `target_class` is the class of a `ClassTarget`."""
    match target:
        case RegressionTarget():
            return target.output
        case ClassTarget():
            assert target_class is not None  # resolved settings contain the class
            return target_class
        case _:
            assert_never(target)


def check_target(target: TargetSettings, n_outputs: int) -> None:
    """Raise `NetworkError` if the score is not defined for a network with `n_outputs` outputs."""
    match target:
        case RegressionTarget():
            if target.output >= n_outputs:
                raise NetworkError(f"target.output must be in [0, {n_outputs - 1}]; got {target.output}.")
        case ClassTarget():
            if target.score == "margin" and n_outputs == 1:
                raise NetworkError(
                    "target.score must be logit or probability for a network with one output; got margin "
                    "(the difference from other classes)."
                )
        case _:
            assert_never(target)


def score_of(target: TargetSettings, target_class: int | None) -> Score:
    """Return the function from a network's outputs to the score of each image; see `target_scores`."""
    return partial(target_scores, target=target, target_class=target_class)


def score_label(target: TargetSettings) -> str:
    """Return the label of the class score in figures, e.g. ``class score (logit)`` or ``output 0``."""
    match target:
        case RegressionTarget():
            return f"output {target.output}"
        case ClassTarget():
            return f"class score ({target.score})"
        case _:
            assert_never(target)


def target_scores(outputs: torch.Tensor, target: TargetSettings, target_class: int | None) -> torch.Tensor:
    """Return the score of each image.

    Parameters
    ----------
    outputs : tensor of shape (n_images, n_outputs) or (n_images,)
        The network's outputs.
    target : ClassTarget or RegressionTarget
        ``logit`` is output_k, unbounded. ``probability`` is softmax(output)_k, in [0, 1]; for a network with one output
        it is the logistic function of that output. ``margin`` is output_k - max(output_j, j != k), unbounded, and
        positive if k is the predicted class. A regression target is the output itself.
    target_class : int or None
        The class k; None for a regression target.

    Returns
    -------
    tensor of shape (n_images,)
        The scores, float64.
    """
    index, outputs = output_index(target, target_class), outputs.double()
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if isinstance(target, RegressionTarget):
        return outputs[:, index]
    match target.score:
        case "logit":
            return outputs[:, index]
        case "probability":
            return (outputs.softmax(dim=1) if outputs.shape[1] > 1 else outputs.sigmoid())[:, index]
        case "margin":
            others = outputs.clone()
            others[:, index] = -math.inf
            return outputs[:, index] - others.amax(dim=1)
        case _:
            assert_never(target.score)
