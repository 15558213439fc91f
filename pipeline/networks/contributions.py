"""The contribution of each channel of a layer to each image's class score, by five methods.

Each method is a function that returns a function from a batch of inputs, (n_images, ...), to the contributions,
(n_images, n_channels), float64 on the CPU. Methods that integrate along a path, or that compare with a baseline, start
from the input that is 0 after normalisation: an image of the mean colour. The contribution of a channel is the sum over
the pixels of its map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from pipeline.arrays import Float64Array
from pipeline.errors import NetworkError
from pipeline.networks.ablation import Ablation
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward
from pipeline.networks.hooks import attached, without_inplace
from pipeline.networks.layout import LayerInfo
from pipeline.networks.maps import as_float, as_maps, is_quantised, only_tensor, with_tensor
from pipeline.networks.targets import Score
from pipeline.networks.tracing import with_separate_activations

Contributions = Callable[[torch.Tensor], torch.Tensor]

# From the network that returns the class score, the module that the layer's tensor passes through, and the inputs, to
# the attributions of that tensor, in its own shape.
Attribute = Callable[[nn.Module, nn.Module, torch.Tensor], Any]


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

    def contributed(inputs: torch.Tensor) -> torch.Tensor:
        at_batch = ablated.at(inputs)
        each = torch.eye(n_channels, dtype=torch.bool, device=inputs.device)
        zero = torch.zeros((1, n_channels, 1, 1), device=inputs.device)
        return (at_batch.scores(torch.zeros_like(each[:1]), zero) - at_batch.scores(each, zero)).T

    return contributed


def gradient_x_activation(examined: ExaminedNetwork) -> Contributions:
    """Return the activation multiplied by the gradient of the class score with respect to it."""

    def attribute(scored: nn.Module, tap: nn.Module, inputs: torch.Tensor) -> Any:
        from captum.attr import LayerGradientXActivation  # imported here because it takes a second

        return LayerGradientXActivation(scored, tap).attribute(inputs)

    return _attributed(examined, examined.network, attribute)


def conductance(examined: ExaminedNetwork, n_steps: int) -> Contributions:
    """Return layer conductance (Dhamdhere et al., 2018, arXiv 1805.12233), with `n_steps` points on the path.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer and the score.
    n_steps : int
        Number of points on the straight path from the baseline to the input, at least 2.
    """

    def attribute(scored: nn.Module, tap: nn.Module, inputs: torch.Tensor) -> Any:
        from captum.attr import LayerConductance

        return LayerConductance(scored, tap).attribute(inputs, n_steps=n_steps, internal_batch_size=2 * len(inputs))

    return _attributed(examined, examined.network, attribute)


def integrated_gradients(examined: ExaminedNetwork, n_steps: int) -> Contributions:
    """Return integrated gradients of the layer (Sundararajan et al., 2017, arXiv 1703.01365).

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

    return _attributed(examined, examined.network, attribute)


def deeplift(examined: ExaminedNetwork) -> Contributions:
    """Return the contributions by DeepLIFT with the rescale rule (Shrikumar et al., 2017, arXiv 1704.02685).

    Raises
    ------
    NetworkError
        If torch.fx cannot trace the network.
    """

    def attribute(scored: nn.Module, tap: nn.Module, inputs: torch.Tensor) -> Any:
        from captum.attr import LayerDeepLift

        return LayerDeepLift(scored, tap).attribute(inputs)

    return _attributed(examined, _separated(examined.network, examined.layer), attribute)


def weight_norms(examined: ExaminedNetwork) -> Float64Array:
    """Return the L2 norm of each channel's weights, (n_channels,).

    Raises
    ------
    NetworkError
        If the layer has no weights, or not one row of weights for each channel.
    """
    weights = _own_weights(examined.module, examined.n_channels)
    norms: Float64Array = weights.double().norm(dim=1).cpu().numpy()
    return norms


def check_weights_of_channels(network: nn.Module, layer: LayerInfo) -> None:
    """Raise `NetworkError` if the layer does not have one row of weights for each channel."""
    _own_weights(network.get_submodule(layer.name), layer.maps[0])


def check_gradients(network: nn.Module, layer: LayerInfo) -> None:
    """Raise `NetworkError` if the network has quantised modules, which have no gradients."""
    for name, module in network.named_modules():
        if is_quantised(module):
            raise NetworkError(
                f"the network must have gradients for this ranker; got the quantised module '{name}' (layer "
                f"'{layer.name}'). Choose another ranker, for example score=ablation or score=ace."
            )


def check_traceable(network: nn.Module, layer: LayerInfo) -> None:
    """Raise `NetworkError` if the network has no gradients, or if torch.fx cannot trace it."""
    check_gradients(network, layer)
    _separated(network, layer)


class _Scored(nn.Module):
    """A network that returns only the class score, (n_images,)."""

    def __init__(self, network: nn.Module, score: Score) -> None:
        super().__init__()
        self.network, self.score = network, score

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.score(forward(self.network, images))


def _attributed(examined: ExaminedNetwork, network: nn.Module, attribute: Attribute) -> Contributions:
    """Return the contributions that an attribution method of Captum computes at the examined layer of `network`."""
    scored, tap = _Scored(network, examined.score), nn.Identity()
    module = network.get_submodule(examined.layer.name)

    def contributed(inputs: torch.Tensor) -> torch.Tensor:
        with without_inplace(network), _tapped(module, tap), torch.enable_grad():
            found = attribute(scored, tap, inputs.detach().clone().requires_grad_())
        return as_maps(as_float(found.detach()), examined.channels).sum(dim=(2, 3)).double().cpu()

    return contributed


@contextmanager
def _tapped(module: nn.Module, tap: nn.Module) -> Iterator[None]:
    """Pass a layer's tensor through `tap` inside the context.

    Captum attributes to the output of `tap`, because it does not accept a layer that returns a tuple, such as
    attention.
    """

    def through(_module: nn.Module, _inputs: object, output: object) -> object:
        tensor = only_tensor(output)
        assert tensor is not None  # a layer that can be ranked returns one tensor
        return with_tensor(output, tap(tensor))

    with attached([module.register_forward_hook(through)]):
        yield


def _separated(network: nn.Module, layer: LayerInfo) -> nn.Module:
    """Return the network with one module for each use of an activation function, as DeepLIFT requires."""
    separate = with_separate_activations(network, layer.name)
    if separate is None:
        raise NetworkError(
            "the network must be traceable by torch.fx for score=deeplift; got one that is not. "
            "Choose another ranker, for example score=conductance."
        )
    return separate


def _own_weights(module: nn.Module, n_channels: int) -> torch.Tensor:
    """Return the weights of a layer with one row for each channel, (n_channels, n_weights)."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.modules.conv._ConvTransposeNd) and module.groups == 1:
        weight = module.weight.transpose(0, 1)
    if not isinstance(weight, torch.Tensor) or len(weight) != n_channels:
        raise NetworkError(
            f"layer must have weights for each of its {n_channels} channels for score=weight_norm; "
            f"got a layer of type {type(module).__name__}. Choose a convolution or a linear layer."
        )
    return weight.detach().reshape(n_channels, -1)
