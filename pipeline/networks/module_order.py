"""The modules of a network that have weights of their own, in the order of the forward pass.

`model.randomized` counts modules in this order, from the output backwards: these modules keep the random weights that
they were initialised with.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.networks.forward import forward
from pipeline.networks.hooks import attached


def owner(entry: str) -> str:
    """Return the name of the module that an entry of a state dict belongs to, or of the module that contains a module.

    For example, the owner of ``layer1.0.bn1.running_mean`` is ``layer1.0.bn1``.
    """
    return entry.rpartition(".")[0]


def in_forward_order(network: nn.Module, images: torch.Tensor) -> list[str]:
    """Return the names of the modules with weights of their own, in the order in which they start to run.

    A module's own weights are its entries in the state dict without the entries of its submodules; they include the
    running statistics of a batch normalisation. A module that does not run although its weights are used (the output
    projection in `torch.nn.MultiheadAttention`) is placed with the module that contains it. The network itself, which
    may own a class token, is the module ``""`` and comes first.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    images : tensor of shape (n_images, ...)
        A batch of inputs, on the network's device; their values do not matter.
    """
    starts: dict[str, int] = {}

    def record(name: str) -> None:
        starts.setdefault(name, len(starts))

    hooks = attached(
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: record(name))
        for name, module in network.named_modules()
    )
    with hooks, torch.inference_mode():
        forward(network, images)

    def start(name: str) -> int:
        while name not in starts:
            name = owner(name)
        return starts[name]

    owners = dict.fromkeys(owner(entry) for entry in network.state_dict())
    return sorted(owners, key=start)  # a stable sort keeps the order of the state dict for equal starts
