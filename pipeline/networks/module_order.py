"""The modules of a network that have weights of their own, in the order of the forward pass.

`model.randomized` counts in this order, from the output backwards, which modules keep the weights that they were
initialised with.
"""

from __future__ import annotations

import torch
from torch import nn

from pipeline.networks.hooks import attached


def owner(entry: str) -> str:
    """Return the module that an entry of a state dict belongs to: ``layer1.0.bn1`` of ``layer1.0.bn1.running_mean``."""
    return entry.rpartition(".")[0]


def in_forward_order(network: nn.Module, images: torch.Tensor) -> list[str]:
    """Return the modules with weights of their own, in the order in which they start to run.

    A module's own weights are its entries in the state dict without those of its submodules; the running statistics of
    a batch normalisation count among them. A module that never runs although its weights are used (the output
    projection in `torch.nn.MultiheadAttention`) takes the place of the module that contains it. The network itself,
    which owns a class token for example, is the module ``""`` and comes first.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    images : Tensor
        One batch of inputs; their values do not matter.
    """
    starts: dict[str, int] = {}

    def note(name: str) -> None:
        starts.setdefault(name, len(starts))

    hooks = attached(
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: note(name))
        for name, module in network.named_modules()
    )
    with hooks, torch.inference_mode():
        network(images)

    def start(name: str) -> int:
        while name not in starts:
            name = owner(name)
        return starts[name]

    owners = dict.fromkeys(owner(entry) for entry in network.state_dict())
    return sorted(owners, key=start)  # a stable sort: modules of one place stay in the order of the state dict
