"""Whether the gradient of a network's outputs reaches a layer, and layers whose tensor is replaced for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.errors import NetworkError
from pipeline.networks.forward import forward
from pipeline.networks.hooks import attached
from pipeline.networks.maps import only_tensor, with_tensor


def reaches(network: nn.Module, module: nn.Module, inputs: torch.Tensor) -> bool:
    """Return whether the gradient of the network's outputs reaches the output of one of its modules.

    It does not if the network runs the module under ``torch.no_grad``, or detaches its values.

    Parameters
    ----------
    network : Module
        The network; its weights may be missing.
    module : Module
        A layer that returns one tensor.
    inputs : tensor of shape (n_images, ...)
        Some inputs; their values do not matter.
    """
    reached: list[torch.Tensor] = []

    def through(tensor: torch.Tensor) -> torch.Tensor:
        reached.append(tensor.detach().clone().requires_grad_())
        return reached[-1].clone()  # operations in place behind the layer may change a copy, but not a leaf

    with torch.no_grad():
        forward(network, inputs)  # an error here has nothing to do with gradients
    try:
        with torch.enable_grad(), replaced(module, through):
            outputs = forward(network, inputs)
        if not outputs.requires_grad:
            return False
        return any(each is not None for each in torch.autograd.grad(outputs.sum(), reached, allow_unused=True))
    except (NetworkError, RuntimeError):  # for example, about tensors of torch.inference_mode
        return False


@contextmanager
def replaced(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Replace a layer's tensor by a function of it inside the context."""

    def through(_module: nn.Module, _inputs: object, output: object) -> object:
        tensor = only_tensor(output)
        assert tensor is not None  # a layer that can be ranked returns one tensor
        return with_tensor(output, change(tensor))

    with attached([module.register_forward_hook(through)]):
        yield
