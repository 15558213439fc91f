"""Layers that can be observed in the same passes through a network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pipeline.networks.layout import LayerInfo


def compatible(network: nn.Module, layers: Sequence[LayerInfo]) -> list[list[LayerInfo]]:
    """Return the layers in groups whose outputs can be read in the same forward pass without changing them.

    PyTorch's `torch.nn.TransformerEncoderLayer` computes with other kernels while one of its modules is observed, so
    that the last digits of everything behind it change, and so does `torch.nn.MultiheadAttention` while its heads are.
    The layers of a group are inside of the same such modules.
    """
    special = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.TransformerEncoderLayer | nn.MultiheadAttention)
    }
    groups: dict[frozenset[str], list[LayerInfo]] = {}
    for layer in layers:
        inside = frozenset(
            name
            for name, module in special.items()
            if f"{layer.name}.".startswith(f"{name}.")
            and (isinstance(module, nn.TransformerEncoderLayer) or layer.name != name)
        )
        groups.setdefault(inside, []).append(layer)
    return list(groups.values())
