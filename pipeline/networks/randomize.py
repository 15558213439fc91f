"""Which modules have weights of their own, from the image to the scores: what is drawn anew, from the scores down."""

from __future__ import annotations

import torch
from torch import nn


def owner(entry: str) -> str:
    """Return the module that an entry of a state dict belongs to: ``layer1.0.bn1`` of ``layer1.0.bn1.running_mean``."""
    return entry.rpartition(".")[0]


def in_forward_order(network: nn.Module, images: torch.Tensor) -> list[str]:
    """Return the modules with weights of their own, in the order in which they start to run.

    A module's own weights are its entries in the state dict, and not those of the modules inside it: of a batch
    normalisation, its running statistics as well. A module whose weights are read though it never runs itself (the
    output projection in `torch.nn.MultiheadAttention`) comes with what it lies in. The network itself, the owner of a
    class token, say, is the module ``""``, and the first.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    images : Tensor
        One batch that it takes; values do not matter.
    """
    starts: dict[str, int] = {}

    def note(name: str) -> None:
        starts.setdefault(name, len(starts))

    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: note(name))
        for name, module in network.named_modules()
    ]
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for handle in handles:
            handle.remove()

    def start(name: str) -> int:
        while name not in starts:
            name = owner(name)
        return starts[name]

    owners = dict.fromkeys(owner(entry) for entry in network.state_dict())
    return sorted(owners, key=start)  # stable: within one place, as the network names them
