"""The contribution of each channel of a layer to each image's class score, by five methods.

Each method is a function that returns a function from a batch of inputs, (n_images, ...), to the contributions. Methods
that integrate along a path, or that compare with a baseline, start from the input that is 0 after normalisation: an
image of the mean colour. The contribution of a channel is the sum over the pixels of its map.

Three methods are complete: their contributions sum to a change of the class score that a pass through the network
measures. They return both numbers, so that every run can compare them, see `pipeline.rankers.images`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks import deeplift as rescaled
from pipeline.networks.ablation import Ablation
from pipeline.networks.capture import capture
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.gradients import reaches, replaced
from pipeline.networks.hooks import without_inplace
from pipeline.networks.layout import LayerInfo
from pipeline.networks.maps import as_maps
from pipeline.networks.targets import Score
from pipeline.networks.tracing import Cut, cut_at, tensors_of

ROUNDING = 1e-5  # of class scores, as a share of their size: they are computed in float32

# From the network that returns the class score, the module that the layer's tensor passes through, and the inputs, to
# the attributions of that tensor, in its own shape.
Attribute = Callable[[nn.Module, nn.Module, torch.Tensor], Any]


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


def ablation(examined: ExaminedNetwork, sample: torch.Tensor) -> Contributions:
    """Return the class score minus the class score when the channel is set to zero.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer and the score.
    sample : tensor of shape (n_images, ...)
        A few inputs, see `pipeline.networks.ablation.Ablation`.
    """
    ablated, n_channels = Ablation(examined, sample), examined.n_channels

    def contributed(inputs: torch.Tensor) -> Contributed:
        at_batch = ablated.at(inputs)
        zero = torch.zeros((1, n_channels, 1, 1), device=inputs.device)
        none = torch.zeros((1, n_channels), dtype=torch.bool, device=inputs.device)
        return Contributed((at_batch.scores(none, zero) - at_batch.scores_of_each(range(n_channels), zero)).T)

    return contributed


def gradient_x_activation(examined: ExaminedNetwork) -> Contributions:
    """Return the activation multiplied by the gradient of the class score with respect to it."""

    def attribute(scored: nn.Module, tap: nn.Module, inputs: torch.Tensor) -> Any:
        from captum.attr import LayerGradientXActivation  # imported here because it takes a second

        return LayerGradientXActivation(scored, tap).attribute(inputs)

    def contributed(inputs: torch.Tensor) -> Contributed:
        return Contributed(_by_channel(_attributed(examined, attribute, inputs), examined))

    return contributed


def conductance(examined: ExaminedNetwork, n_steps: int) -> Contributions:
    """Return layer conductance (Dhamdhere et al., 2018, arXiv 1805.12233), with `n_steps` points on the path.

    The contributions of the channels and of all values that bypass the layer sum to the change of the score. If
    torch.fx cannot trace the network, these values are not known. One image of each batch is then compared with the
    contributions of the channels with twice as many points.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer and the score.
    n_steps : int
        Number of points on the straight path from the baseline to the input, at least 2.
    """
    cut = cut_at(examined.network, examined.layer.name)

    def along(n_points: int) -> Attribute:
        def attribute(scored: nn.Module, tap: nn.Module, inputs: torch.Tensor) -> Any:
            from captum.attr import LayerConductance

            n_at_once = 2 * len(inputs)
            return LayerConductance(scored, tap).attribute(inputs, n_steps=n_points, internal_batch_size=n_at_once)

        return attribute

    def contributed(inputs: torch.Tensor) -> Contributed:
        if cut is not None and _is_same(examined, cut, inputs):
            tap = _Values()
            with without_inplace(examined.network), torch.enable_grad():
                found = along(n_steps)(_Cut(cut, tap, examined.score), tap, _leaf(inputs))
            layer, *others = (each.detach() for each in (found if isinstance(found, tuple) else (found,)))
            return Contributed(_by_channel(layer, examined), _compared(examined, _sum([layer, *others]), inputs))
        channels = _by_channel(_attributed(examined, along(n_steps), inputs), examined)
        finer = _by_channel(_attributed(examined, along(2 * n_steps), inputs[:1]), examined)
        total, change = channels[:1].sum(dim=1), finer.sum(dim=1)
        return Contributed(channels, Sums(total, change, _compared(examined, total, inputs[:1]).rounding))

    return contributed


def integrated_gradients(examined: ExaminedNetwork, n_steps: int) -> Contributions:
    """Return integrated gradients of the layer (Sundararajan et al., 2017, arXiv 1703.01365).

    The contributions sum to the change of the score when the layer's activations for the input are replaced by those
    for the baseline, and all values that bypass the layer are kept.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer and the score.
    n_steps : int
        Number of points on the straight path between the layer's activations for the baseline and for the input, at
        least 2.
    """

    def attribute(scored: nn.Module, tap: nn.Module, inputs: torch.Tensor) -> Any:
        from captum.attr import LayerIntegratedGradients

        method = LayerIntegratedGradients(scored, tap)
        return method.attribute(inputs, n_steps=n_steps, internal_batch_size=2 * len(inputs))

    def contributed(inputs: torch.Tensor) -> Contributed:
        channels = _by_channel(_attributed(examined, attribute, inputs), examined)
        with torch.inference_mode(), capture(examined.network, examined.layer.name) as captured:
            whole = examined.score(examined.network(inputs))
            captured.take()
            examined.network(torch.zeros_like(inputs))
            baseline = captured.take()
        with torch.inference_mode(), replaced(examined.module, lambda _: baseline):
            without = examined.score(examined.network(inputs))
        return Contributed(channels, _sums(channels.sum(dim=1), whole, without))

    return contributed


def deeplift(examined: ExaminedNetwork) -> Contributions:
    """Return the contributions by DeepLIFT with the rescale rule (Shrikumar et al., 2017, arXiv 1704.02685).

    The contributions of the channels and of all values that bypass the layer sum to the change of the score.

    Raises
    ------
    NetworkError
        If torch.fx cannot trace the network, or an operation behind the layer has no rule.
    """
    cut = _cut_with_rules(examined.network, examined.layer.name)

    def contributed(inputs: torch.Tensor) -> Contributed:
        with without_inplace(examined.network):
            with torch.no_grad():
                output, around = cut.before(torch.cat([inputs, torch.zeros_like(inputs)]))
            try:
                layer, *others = rescaled.contributions(cut.behind, examined.score, (output, *around), len(inputs))
            except (NotImplementedError, TypeError) as error:
                raise _lacking([str(error).splitlines()[0]]) from error
        return Contributed(_by_channel(layer, examined), _compared(examined, _sum([layer, *others]), inputs))

    return contributed


def check_rules(network: nn.Module, layer: LayerInfo, example: torch.Tensor) -> None:
    """Raise `NetworkError` if DeepLIFT cannot be computed: see `deeplift`."""
    check_gradients(network, layer, example)
    _cut_with_rules(network, layer.name)


def check_gradients(network: nn.Module, layer: LayerInfo, example: torch.Tensor) -> None:
    """Raise `NetworkError` if no gradient of the network's outputs reaches the layer.

    Parameters
    ----------
    network : Module
        The network; its weights may be missing.
    layer : LayerInfo
        The layer.
    example : tensor of shape (n_images, ...)
        Some inputs; their values do not matter.
    """
    if not reaches(network, network.get_submodule(layer.name), example):
        raise NetworkError(
            f"gradients must pass from the network's outputs to the layer; got none (layer '{layer.name}'). Remove "
            "torch.no_grad and detach from the network, or choose a ranker that needs no gradients, for example "
            "score=ablation."
        )


class _Scored(nn.Module):
    """A network that returns only the class score, (n_images,)."""

    def __init__(self, network: nn.Module, score: Score) -> None:
        super().__init__()
        self.network, self.score = network, score

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.score(self.network(images))


class _Values(nn.Module):
    """A module through which some tensors pass. Captum attributes to its output, a tuple."""

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(value.clone() for value in values)


class _Cut(nn.Module):
    """A cut network that returns only the class score; all values of numbers between its two parts pass `tap`."""

    def __init__(self, cut: Cut, tap: nn.Module, score: Score) -> None:
        super().__init__()
        self.cut, self.tap, self.score = cut, tap, score

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output, around = self.cut.before(images)
        values, rebuild = tensors_of((output, *around), len(images))
        passed = self.tap(*values)
        # A value whose shape alone is used has no gradient otherwise, which Captum does not accept.
        unused = sum(each.flatten(1).sum(dim=1) * 0 for each in passed)
        scores: torch.Tensor = self.score(self.cut.behind(*rebuild(passed))) + unused
        return scores


def _attributed(examined: ExaminedNetwork, attribute: Attribute, inputs: torch.Tensor) -> torch.Tensor:
    """Return the attributions of the layer's tensor by a method of Captum, in its own shape.

    Captum attributes to the output of a module that the tensor passes through, because it does not accept a layer that
    returns a tuple, such as attention.
    """
    scored, tap = _Scored(examined.network, examined.score), nn.Identity()
    with without_inplace(examined.network), replaced(examined.module, tap), torch.enable_grad():
        found = attribute(scored, tap, _leaf(inputs))
    attributions: torch.Tensor = found.detach()
    return attributions


def _by_channel(attributions: torch.Tensor, examined: ExaminedNetwork) -> torch.Tensor:
    """Return the sum of the attributions over the pixels of each channel, (n_images, n_channels)."""
    return as_maps(attributions.detach(), examined.channels).sum(dim=(2, 3)).double().cpu()


def _sum(attributions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of all attributions for each image, (n_images,)."""
    return torch.stack([each.double().flatten(1).sum(dim=1) for each in attributions]).sum(dim=0).cpu()


def _leaf(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.detach().clone().requires_grad_()


@torch.inference_mode()
def _compared(examined: ExaminedNetwork, total: torch.Tensor, inputs: torch.Tensor) -> Sums:
    """Compare sums of contributions with the difference of the scores from those of the baseline."""
    given, baseline = (examined.score(examined.network(each)) for each in (inputs, torch.zeros_like(inputs)))
    return _sums(total, given, baseline)


def _sums(total: torch.Tensor, given: torch.Tensor, baseline: torch.Tensor) -> Sums:
    given, baseline = given.double().cpu(), baseline.double().cpu()
    return Sums(total, given - baseline, ROUNDING * torch.maximum(given.abs(), baseline.abs()))


@torch.inference_mode()
def _is_same(examined: ExaminedNetwork, cut: Cut, inputs: torch.Tensor) -> bool:
    """Return whether a cut network gives the scores of the whole one, also for a batch of another size."""
    try:
        output, around = cut.before(inputs.repeat(2, *[1] * (inputs.ndim - 1)))
        found = examined.score(cut.behind(output, *around))[: len(inputs)]
    except (RuntimeError, TypeError, ValueError):
        return False
    return torch.allclose(found, examined.score(examined.network(inputs)), rtol=1e-4, atol=1e-4)


def _cut_with_rules(network: nn.Module, layer: str) -> Cut:
    """Return the network in two parts; DeepLIFT has a rule for every operation of the second."""
    cut = cut_at(network, layer)
    if cut is None:
        raise NetworkError(
            "the network must be traceable by torch.fx for score=deeplift; got one that is not. "
            "Choose another ranker, for example score=conductance."
        )
    lacking = rescaled.without_rule(cut.behind)
    if lacking:
        raise _lacking(lacking)
    return cut


def _lacking(operations: list[str]) -> NetworkError:
    return NetworkError(
        "every operation behind the layer must have a rule for score=deeplift; got "
        f"{listed(operations, 3)}. Choose another ranker, for example score=integrated_gradients."
    )
