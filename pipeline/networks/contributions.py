"""What each channel of a layer adds to each image's class score, as other rankers of channels have it.

| kind | what a channel adds to an image's score |
|---|---|
| gradient_x_activation | activation times its gradient, summed over places |
| conductance | layer conductance (Dhamdhere et al., 2018), summed over places |
| integrated_gradients | integrated gradients of the layer (Sundararajan et al., 2017), summed over places |
| deeplift | DeepLIFT, rescale rule (Shrikumar et al., 2017), summed over places |
| ablation | the score less the score with the channel set to zero |

The paths and differences start from the input that is 0 after normalisation: an image of the mean colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import NetworkError
from pipeline.networks.attribution import no_overwriting
from pipeline.networks.layers import LayerInfo
from pipeline.networks.load import probe
from pipeline.networks.maps import as_maps, only_tensor, with_tensor
from pipeline.networks.removal import Removal, Scores
from pipeline.networks.tracing import with_separate_activations
from pipeline.settings import ModelSettings

Contributions = Callable[[torch.Tensor], torch.Tensor]


class _Scored(nn.Module):
    """A network that puts out the score alone, (n,)."""

    def __init__(self, network: nn.Module, score: Scores) -> None:
        super().__init__()
        self.network, self.score = network, score

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.score(self.network(images))


def contributions(
    kind: str, network: nn.Module, layer: LayerInfo, score: Scores, sample: torch.Tensor, n_steps: int | None
) -> Contributions:
    """Return what gives a batch's contributions: from inputs, (n_images, ...), to (n_images, n_channels).

    Parameters
    ----------
    kind : str
        See the table above.
    network : nn.Module
        In evaluation mode; it is not changed.
    layer : LayerInfo
        One that can be ranked.
    score : callable
        From the network's outputs to a score for each image, (n,).
    sample : tensor
        A few images.
    n_steps : int or None
        Points on the path, for the two kinds that have one.

    Raises
    ------
    NetworkError
        If DeepLIFT is asked of a network that torch.fx cannot trace.
    """
    channels = layer.channels
    assert channels is not None
    if kind == "ablation":
        removal = Removal(network, layer.name, channels, score, sample)
        return lambda inputs: _ablated(removal, inputs, layer.maps[0])
    if kind == "deeplift":
        network = _separate(network, layer.name)
    import captum.attr  # late: it takes a second to import

    scored, module, tap = _Scored(network, score), network.get_submodule(layer.name), nn.Identity()
    kinds: dict[str, Callable[[torch.Tensor], Any]] = {
        "gradient_x_activation": captum.attr.LayerGradientXActivation(scored, tap).attribute,
        "conductance": lambda inputs: captum.attr.LayerConductance(scored, tap).attribute(
            inputs, n_steps=n_steps, internal_batch_size=2 * len(inputs)
        ),
        "integrated_gradients": lambda inputs: captum.attr.LayerIntegratedGradients(scored, tap).attribute(
            inputs, n_steps=n_steps, internal_batch_size=2 * len(inputs)
        ),
        "deeplift": captum.attr.LayerDeepLift(scored, tap).attribute,
    }

    def attributed(inputs: torch.Tensor) -> torch.Tensor:
        with no_overwriting(network), _tapped(module, tap), torch.enable_grad():
            found = kinds[kind](inputs.detach().clone().requires_grad_())
        return as_maps(found.detach(), channels).sum(dim=(2, 3)).double().cpu()

    return attributed


@contextmanager
def _tapped(module: nn.Module, tap: nn.Module) -> Iterator[None]:
    """Lead a layer's one tensor through `tap` inside the context: Captum takes no tuple, as attention puts out."""

    def through(_module: nn.Module, _inputs: object, output: object) -> object:
        tensor = only_tensor(output)
        assert tensor is not None  # layers.find has seen it
        return with_tensor(output, tap(tensor))

    handle = module.register_forward_hook(through)
    try:
        yield
    finally:
        handle.remove()


def weight_norms(module: nn.Module, n_channels: int) -> NDArray[np.float64]:
    """Return the L2 norm of each channel's weights, (n_channels,).

    Raises
    ------
    NetworkError
        If the layer has no weights, or not a row of them for each channel.
    """
    norms: NDArray[np.float64] = _own_weights(module, n_channels).double().norm(dim=1).cpu().numpy()
    return norms


def check_ranker(kind: str, model: ModelSettings, layer: LayerInfo) -> None:
    """Raise `NetworkError` where the network has not what a ranker asks for; nothing is loaded."""
    if kind == "weight_norm":
        probe(model, lambda network, _: _own_weights(network.get_submodule(layer.name), layer.maps[0]))
    elif kind == "deeplift":
        probe(model, lambda network, _: _separate(network, layer.name))


def _separate(network: nn.Module, layer: str) -> nn.Module:
    separate = with_separate_activations(network, layer)
    if separate is None:
        raise NetworkError(
            "score=deeplift must have a network that torch.fx can trace; got one that it cannot. "
            "Take another: score=conductance asks nothing of the network."
        )
    return separate


def _own_weights(module: nn.Module, n_channels: int) -> torch.Tensor:
    """Return a row of weights for each channel, (n_channels, n_weights)."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.modules.conv._ConvTransposeNd) and module.groups == 1:
        weight = module.weight.transpose(0, 1)
    if not isinstance(weight, torch.Tensor) or len(weight) != n_channels:
        raise NetworkError(
            f"layer must have weights for each of its {n_channels} channels with score=weight_norm; "
            f"got a {type(module).__name__}. Choose a convolution or a linear layer."
        )
    return weight.detach().reshape(n_channels, -1)


def _ablated(removal: Removal, inputs: torch.Tensor, n_channels: int) -> torch.Tensor:
    at_batch = removal.at(inputs)
    each = torch.eye(n_channels, dtype=torch.bool, device=inputs.device)
    none = torch.zeros((1, n_channels, 1, 1), device=inputs.device)
    return (at_batch.scores(torch.zeros_like(each[:1]), none) - at_batch.scores(each, none)).T
