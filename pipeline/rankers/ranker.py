"""The definition of a ranker: one entry of the table in `pipeline.rankers.table`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from pipeline.arrays import FloatArray, Int64Array
from pipeline.artifacts import Activations, ChannelScores, Projections, Workspace
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.layout import LayerInfo
from pipeline.progress import Progress
from pipeline.settings import HalvesSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipeline.networks.contributed import ContributionsOfLayers
    from pipeline.networks.inputs import Inputs
    from pipeline.numerics.groups import Groups

SettingsT_co = TypeVar("SettingsT_co", bound=HalvesSettings, covariant=True)


@dataclass(frozen=True)
class RankerInputs(Generic[SettingsT_co]):
    """The data that a ranker can use.

    Attributes
    ----------
    settings : HalvesSettings
        The ranker's own settings: an instance of the class `Ranker.settings`.
    seed : int
        Seed of all random numbers.
    activations : Activations
        The layer's maps and the class scores.
    projections : Projections
        The principal components of the maps.
    open_network : callable
        Returns the network. It is loaded only when this is called.
    images : Inputs
        The images as inputs of the network, in the order of the activations.
    batch_size : int
        Largest number of images in a forward pass.
    progress : callable
        Called with the number of channels that are scored and the number of all channels.
    copies : Groups or None
        Copies among the images, which random draws take together; None if all images differ.
    choose_components : bool
        Whether the ranker chooses how many of the leading components it uses.
    workspace : Workspace
        Storage of large results; in memory by default.
    """

    settings: SettingsT_co
    seed: int
    activations: Activations
    projections: Projections
    open_network: Callable[[], ExaminedNetwork]
    images: Inputs
    batch_size: int
    progress: Progress
    copies: Groups | None = None
    choose_components: bool = False
    workspace: Workspace = field(default_factory=Workspace)

    @property
    def n_different(self) -> int:
        """The number of images without copies."""
        return len(self.activations.class_score) if self.copies is None else len(self.copies)


@dataclass(frozen=True)
class Scorer:
    """The scores of the channels for any subset of the images.

    Attributes
    ----------
    score : callable
        From the indices of some images to the score of every channel, (n_channels,).
    completeness_error : float or None
        For attributions that are complete: the difference between the sum of all contributions and the change of the
        class score, summed over the images, as a share of that change. None for other rankers.
    """

    score: Callable[[Int64Array], FloatArray]
    completeness_error: float | None = None

    def __call__(self, chosen: Int64Array) -> FloatArray:
        """Return the score of every channel for some images, by their indices."""
        return self.score(chosen)


@dataclass(frozen=True)
class Statistic:
    """A number that channels can be ranked by.

    Attributes
    ----------
    name : str
        Name in settings and tables.
    label : str
        Description in figures and reports.
    is_correlation : bool
        Whether it is a correlation: at most 1, and rarely below 0.
    """

    name: str
    label: str
    is_correlation: bool


def no_requirements(network: nn.Module, layer: LayerInfo, example: torch.Tensor) -> None:
    """Accept every network and layer."""


Attribution: TypeAlias = "Callable[[Sequence[ExaminedNetwork], Any], ContributionsOfLayers]"
Check: TypeAlias = "Callable[[nn.Module, LayerInfo, torch.Tensor], None]"


@dataclass(frozen=True)
class Ranker:
    """A method that computes a score for each channel.

    Attributes
    ----------
    kind : str
        Name in the settings: ``score=<kind>``.
    settings : type
        Class of its settings.
    statistics : tuple of Statistic
        The numbers that it computes for each channel. The first is the one that channels are ranked by, unless the
        settings name another one.
    score : callable
        From `RankerInputs` to the scores of all channels.
    scorer : callable or None
        From `RankerInputs` to the function that scores the channels with any subset of the images; None if the ranker
        has no such function.
    attribution : callable or None
        For a ranker by contributions that are computed for several layers in the same passes: from the network with
        each of the layers, and the settings, to the function that computes the contributions. None for other rankers.
    check : callable
        Called with the network, whose weights may be missing, the layer, and two inputs whose values do not matter,
        before anything is computed. It raises `NetworkError` if the ranker cannot be applied to them.
    runs_network : bool
        Whether `score` runs the network on the images.
    """

    kind: str
    settings: type[HalvesSettings]
    statistics: tuple[Statistic, ...]
    score: Callable[[RankerInputs[Any]], ChannelScores]
    scorer: Callable[[RankerInputs[Any]], Scorer] | None = None
    attribution: Attribution | None = None
    check: Check = no_requirements
    runs_network: bool = False
