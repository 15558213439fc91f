"""What a ranker is: one entry of the table in `pipeline.rankers.table`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.arrays import FloatArray
from pipeline.artifacts import Activations, ChannelScores, Projections
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.inputs import Inputs
from pipeline.networks.layout import LayerInfo
from pipeline.numerics.groups import Groups
from pipeline.progress import Progress


@dataclass(frozen=True)
class RankerInputs:
    """What a ranker can use.

    Attributes
    ----------
    settings : one of the classes in `pipeline.settings.ScoreSettings`
        The ranker's own settings.
    seed : int
        Of everything that is drawn at random.
    activations : Activations
        The layer's maps and the class scores.
    projections : Projections
        The principal components of the maps.
    open_network : callable
        Returns the network; it is loaded only if it is called.
    images : Inputs
        The images as inputs of the network.
    batch_size : int
        Largest number of images in a pass.
    progress : callable
        Called with the number of channels done and the number of all channels.
    copies : Groups or None
        Copies among the images, which random draws take together; None if all images differ.
    """

    settings: Any
    seed: int
    activations: Activations
    projections: Projections
    open_network: Callable[[], ExaminedNetwork]
    images: Inputs
    batch_size: int
    progress: Progress
    copies: Groups | None = None

    @property
    def n_different(self) -> int:
        """The number of images without copies."""
        return len(self.images) if self.copies is None else len(self.copies)


Scorer = Callable[[NDArray[np.int64]], FloatArray]  # from indices of images to every channel's score


@dataclass(frozen=True)
class Statistic:
    """A number that channels can be ranked by.

    Attributes
    ----------
    name : str
        Its name in settings and tables.
    label : str
        What it is, as figures and reports call it.
    is_correlation : bool
        Whether it is a correlation: at most 1, and hardly below 0.
    """

    name: str
    label: str
    is_correlation: bool


def nothing_needed(network: nn.Module, layer: LayerInfo) -> None:
    """Accept every network."""


@dataclass(frozen=True)
class Ranker:
    """A way to give every channel a score.

    Attributes
    ----------
    kind : str
        Its name: ``score=<kind>``.
    settings : type
        The class of its settings.
    statistics : tuple of Statistic
        What it computes of each channel; the first is what it ranks by unless the settings say otherwise.
    score : callable
        From `RankerInputs` to the scores of all channels.
    scorer : callable or None
        From `RankerInputs` to the function that scores the channels by any subset of the images; None for a ranker that
        does not score channels so.
    check : callable
        Called with the network (its weights may be missing) and the layer before any work; raises `NetworkError` if the
        ranker needs something that they do not have.
    """

    kind: str
    settings: type[Any]
    statistics: tuple[Statistic, ...]
    score: Callable[[RankerInputs], ChannelScores]
    scorer: Callable[[RankerInputs], Scorer] | None = None
    check: Callable[[nn.Module, LayerInfo], None] = nothing_needed
