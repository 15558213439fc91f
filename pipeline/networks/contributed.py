"""The contributions of channels for a batch of images, and whether they sum to the change of the class score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pipeline.networks.arrangement import Heads, with_all_tokens
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward
from pipeline.networks.maps import as_float, as_maps

ROUNDING = 1e-5  # of class scores, as a share of their size: they are computed in float32


@dataclass(frozen=True)
class Sums:
    """Whether the contributions for some images are complete.

    Attributes
    ----------
    total : tensor of shape (n_images,)
        The sum of all contributions: those of the channels, and those of the values that bypass the layer where the
        method includes them. Float64 on the CPU, as all attributes.
    change : tensor of shape (n_images,)
        The change of the class score that it must equal, measured without the method.
    rounding : tensor of shape (n_images,)
        Rounding error of the class score, below which a difference of the two has no meaning.
    """

    total: torch.Tensor
    change: torch.Tensor
    rounding: torch.Tensor

    @property
    def error(self) -> torch.Tensor:
        """Absolute difference of both beyond the rounding error, (n_images,)."""
        return ((self.total - self.change).abs() - self.rounding).clamp_min(0)


@dataclass(frozen=True)
class Contributed:
    """The contributions of the channels for a batch of images.

    Attributes
    ----------
    channels : tensor of shape (n_images, n_channels)
        The contributions, float64 on the CPU.
    sums : Sums or None
        For some images of the batch, whether the contributions are complete. None for a method that is not complete.
    """

    channels: torch.Tensor
    sums: Sums | None = None


Contributions = Callable[[torch.Tensor], Contributed]
ContributionsOfLayers = Callable[[torch.Tensor], list[Contributed]]
"""From a batch of inputs to the contributions of the channels of several layers, in the order of the layers."""


def one_layer(contributions: Contributions) -> ContributionsOfLayers:
    """Return the contributions of a layer as those of a list of one layer."""
    return lambda inputs: [contributions(inputs)]


def by_channel(attributions: torch.Tensor, examined: ExaminedNetwork) -> torch.Tensor:
    """Return the sum of the attributions over the pixels or tokens of each channel, (n_images, n_channels).

    The attributions of all units of an attention head are added.
    """
    maps = as_maps(as_float(attributions.detach()), with_all_tokens(examined.channels))
    summed = maps.sum(dim=(2, 3)).double().cpu()
    if isinstance(examined.channels, Heads):
        return summed.reshape(len(summed), examined.channels.n_heads, -1).sum(dim=2)
    return summed


def sum_of_all(attributions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of all attributions for each image, (n_images,)."""
    return torch.stack([each.double().flatten(1).sum(dim=1) for each in attributions]).sum(dim=0).cpu()


def leaf_of(inputs: torch.Tensor) -> torch.Tensor:
    """Return a copy of which gradients can be computed."""
    return inputs.detach().clone().requires_grad_()


def compared(examined: ExaminedNetwork, total: torch.Tensor, inputs: torch.Tensor) -> Sums:
    """Compare sums of contributions with the difference of the scores from those of the baseline."""
    return sums_of(total, *scores_of_both(examined, inputs))


@torch.no_grad()
def scores_of_both(examined: ExaminedNetwork, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of the inputs and of their baselines, each (n_images,)."""
    given, baseline = (examined.score(forward(examined.network, each)) for each in (inputs, torch.zeros_like(inputs)))
    return given, baseline


def sums_of(total: torch.Tensor, given: torch.Tensor, baseline: torch.Tensor) -> Sums:
    """Compare sums of contributions with the difference of two scores of each image."""
    given, baseline = given.double().cpu(), baseline.double().cpu()
    return Sums(total, given - baseline, ROUNDING * torch.maximum(given.abs(), baseline.abs()))
