"""The norms of the weights with which a layer computes each of its channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pipeline.arrays import Float64Array
from pipeline.errors import NetworkError
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward
from pipeline.networks.hooks import attached
from pipeline.networks.layout import LayerInfo

_ROWS_FIRST = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)


def weight_norms(examined: ExaminedNetwork, sample: torch.Tensor) -> Float64Array:
    """Return the L2 norm of each channel's weights, (n_channels,), as they are in a forward pass.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network and the layer.
    sample : tensor of shape (n_images, ...)
        A few inputs; their values do not matter.

    Raises
    ------
    NetworkError
        If the layer has no weights, or not one row of weights for each channel.
    """
    rows = _weights_by_channel(examined.network, examined.layer, sample)
    norms: Float64Array = rows.double().norm(dim=1).cpu().numpy()
    return norms


def check_weights_of_channels(network: nn.Module, layer: LayerInfo, example: torch.Tensor) -> None:
    """Raise `NetworkError` if the layer does not have one row of weights for each channel."""
    _weights_by_channel(network, layer, example)


class _Recorder(TorchFunctionMode):
    """Record the weights of the convolutions and linear maps that are computed while `is_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_on, self.found = False, list[torch.Tensor]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.is_on and func in (*_ROWS_FIRST, *_TRANSPOSED):
            weight = kwargs["weight"] if "weight" in kwargs else args[1]
            groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
            self.found.append(_rows_of_transposed(weight, groups) if func in _TRANSPOSED else weight.detach().clone())
        return func(*args, **kwargs)


@torch.no_grad()
def _weights_by_channel(network: nn.Module, layer: LayerInfo, inputs: torch.Tensor) -> torch.Tensor:
    """Return the weights of a layer with one row for each channel, (n_channels, n_weights).

    They are read in a forward pass, because hooks, parametrisations and the layer's own code may compute them there:
    the attribute ``weight`` of a module with ``torch.nn.utils.weight_norm`` is that of the last forward pass.
    """
    module, n_channels = network.get_submodule(layer.name), layer.maps[0]
    recorder = _Recorder()

    def begin(*_: Any) -> None:
        recorder.is_on = True

    def end(*_: Any) -> None:
        recorder.is_on = False

    with attached([module.register_forward_pre_hook(begin), module.register_forward_hook(end)]), recorder:
        forward(network, inputs)
    is_composite = any(name != "parametrizations" for name, _ in module.named_children())
    scale = getattr(module, "weight", None)
    if len(recorder.found) == 1 and len(recorder.found[0]) == n_channels and not is_composite:
        return recorder.found[0].flatten(1)
    if not recorder.found and isinstance(scale, torch.Tensor) and scale.shape == (n_channels,):  # of a normalisation
        return scale.detach()[:, None]
    kind = "quantised " * ("quantized" in type(module).__module__) + type(module).__name__
    raise NetworkError(
        f"layer must have weights for each of its {n_channels} channels for score=weight_norm; "
        f"got a layer of type {kind}. Choose a convolution or a linear layer."
    )


def _rows_of_transposed(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Return the weights of a transposed convolution with one row for each channel.

    Each group of channels is computed from a group of inputs: the weights of shape (n_inputs, n_channels / groups, ...)
    become (n_channels, n_inputs / groups, ...).
    """
    by_group = weight.detach().reshape(groups, -1, *weight.shape[1:])
    return by_group.transpose(1, 2).flatten(0, 1)
