"""The contribution of each channel of a layer to each image's class score, by four methods; see also `conductance`.

Each method is a function that returns a function from a batch of inputs, (n_images, ...), to the contributions. Methods
that integrate along a path, or that compare with a baseline, start from the input that is 0 after normalisation: an
image of the mean colour. The contribution of a channel is the sum over the pixels of its map; in a transformer, over
all tokens, those of class and registers included.

Integrated gradients, DeepLIFT and conductance are complete: their contributions sum to a change of the class score that
a pass through the network measures. They return both numbers, and every run compares them, see
`pipeline.rankers.images`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from pipeline.errors import NetworkError, listed
from pipeline.networks import deeplift as rescaled
from pipeline.networks.ablation import Ablation
from pipeline.networks.capture import capture
from pipeline.networks.contributed import (
    Contributed,
    Contributions,
    ContributionsOfLayers,
    by_channel,
    compared,
    leaf_of,
    sum_of_all,
    sums_of,
)
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward, network_input
from pipeline.networks.gradients import reaches, replaced
from pipeline.networks.hooks import without_inplace
from pipeline.networks.layout import LayerInfo
from pipeline.networks.maps import as_before, is_quantised
from pipeline.networks.targets import Score
from pipeline.networks.tracing import Cut, cut_at

# From the network that returns the class score, the modules that the layers' tensors pass through, and the inputs, to
# the attributions of these tensors, each in its own shape.
Attribute = Callable[[nn.Module, list[nn.Module], torch.Tensor], Any]


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


def gradient_x_activation(layers: Sequence[ExaminedNetwork]) -> ContributionsOfLayers:
    """Return the activation multiplied by the gradient of the class score with respect to it.

    One backward pass for each batch serves all layers. The contributions of a layer are the same, to the byte, as if it
    were the only one.

    Parameters
    ----------
    layers : sequence of ExaminedNetwork
        The network and the score, with each of the layers.
    """

    def attribute(scored: nn.Module, taps: list[nn.Module], inputs: torch.Tensor) -> Any:
        from captum.attr import LayerGradientXActivation  # imported here because it takes a second

        return LayerGradientXActivation(scored, taps).attribute(inputs)

    def contributed(inputs: torch.Tensor) -> list[Contributed]:
        found = _attributed(layers, attribute, inputs)
        return [Contributed(by_channel(each, of)) for each, of in zip(found, layers, strict=True)]

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

    def attribute(scored: nn.Module, taps: list[nn.Module], inputs: torch.Tensor) -> Any:
        from captum.attr import LayerIntegratedGradients

        method = LayerIntegratedGradients(scored, taps[0])  # several layers would be replaced at the same time
        return [method.attribute(inputs, n_steps=n_steps, internal_batch_size=2 * len(inputs))]

    def contributed(inputs: torch.Tensor) -> Contributed:
        (attributions,) = _attributed([examined], attribute, inputs)
        channels = by_channel(attributions, examined)
        with torch.no_grad(), capture(examined.network, examined.layer.name) as captured:
            whole = examined.score(forward(examined.network, inputs))
            captured.take()
            forward(examined.network, torch.zeros_like(inputs))
            baseline = captured.take()
        with torch.no_grad(), replaced(examined.module, lambda tensor: as_before(baseline, tensor)):
            without = examined.score(forward(examined.network, inputs))
        return Contributed(channels, sums_of(channels.sum(dim=1), whole, without))

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
            doubled = torch.cat([inputs, torch.zeros_like(inputs)])
            with torch.no_grad():
                output, around = cut.before.forward(network_input(examined.network, doubled))
            try:
                layer, *others = rescaled.contributions(cut.behind, examined.score, (output, *around), len(inputs))
            except (NotImplementedError, TypeError) as error:
                raise _lacking([str(error).splitlines()[0]]) from error
        return Contributed(by_channel(layer, examined), compared(examined, sum_of_all([layer, *others]), inputs))

    return contributed


def check_rules(network: nn.Module, layer: LayerInfo, example: torch.Tensor) -> None:
    """Raise `NetworkError` if DeepLIFT cannot be computed, see `deeplift`. It needs no gradients of the network."""
    _check_not_quantised(network, layer)
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
    _check_not_quantised(network, layer)
    if not reaches(network, network.get_submodule(layer.name), example):
        raise NetworkError(
            f"gradients must pass from the network's outputs to the layer; got none (layer '{layer.name}'). Remove "
            "torch.no_grad and detach from the network, or choose a ranker that needs no gradients, for example "
            "score=ablation."
        )


def _check_not_quantised(network: nn.Module, layer: LayerInfo) -> None:
    """Raise `NetworkError` if the network has quantised modules, which have no gradients."""
    for name, module in network.named_modules():
        if is_quantised(module):
            raise NetworkError(
                f"the network must have gradients for this ranker; got the quantised module '{name}' (layer "
                f"'{layer.name}'). Choose another ranker, for example score=ablation or score=ace."
            )


class _Scored(nn.Module):
    """A network that returns only the class score, (n_images,)."""

    def __init__(self, network: nn.Module, score: Score) -> None:
        super().__init__()
        self.network, self.score = network, score

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.score(forward(self.network, images))


def _attributed(layers: Sequence[ExaminedNetwork], attribute: Attribute, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return the attributions of the layers' tensors by a method of Captum, each in its own shape.

    Captum attributes to the outputs of modules that the tensors pass through, because it does not accept a layer that
    returns a tuple, such as attention.
    """
    network = layers[0].network
    taps: list[nn.Module] = [nn.Identity() for _ in layers]
    with ExitStack() as stack:
        stack.enter_context(without_inplace(network))
        for each, tap in zip(layers, taps, strict=True):
            stack.enter_context(replaced(each.module, tap))
        stack.enter_context(torch.enable_grad())
        found = attribute(_Scored(network, layers[0].score), taps, leaf_of(inputs))
    return [each.detach() for each in found]


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
