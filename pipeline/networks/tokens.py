"""The tokens of a transformer as patches of the image."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from pipeline.networks.arrangement import PatchTokens


def n_other_tokens(network: nn.Module) -> int:
    """Return the number of class and register tokens that a network prepends to the patches.

    They are parameters of shape (1, n_tokens, n_channels): ``cls_token``, ``dist_token`` and ``reg_token`` in timm,
    ``class_token`` in torchvision, ``cls_token``, ``distillation_token`` and ``register_tokens`` in transformers.
    """
    found = 0
    for name, parameter in network.named_parameters():
        own_name = name.rpartition(".")[2]
        is_token = "token" in own_name and "mask" not in own_name
        if is_token and parameter.ndim == 3 and len(parameter) == 1:
            found += parameter.shape[1]
    return found


def n_mergings(network: nn.Module) -> int:
    """Return how often a network merges 2 x 2 patches into one, as Swin does in transformers."""
    return sum("PatchMerging" in type(module).__name__ for module in network.modules())


def patch_tokens(n_tokens: int, grids: Iterable[tuple[int, int]], n_others: int, n_halvings: int) -> PatchTokens | None:
    """Return the arrangement of tokens as patches, or None if it is not known.

    Parameters
    ----------
    n_tokens : int
        Number of tokens of the layer.
    grids : iterable of (height, width)
        Sizes of the maps of convolutions that ran before the layer, the nearest first; one of them made the patches.
    n_others : int
        Number of class and register tokens of the network. The tokens of a layer include all of them or none.
    n_halvings : int
        How often height and width may have been halved since.
    """
    for height, width in grids:
        for others in dict.fromkeys((0, n_others)):
            if n_tokens == others + height * width:
                return PatchTokens(others, height, width)
        for _ in range(n_halvings):
            height, width = -(-height // 2), -(-width // 2)  # an odd number of patches is extended by one
            if n_tokens == height * width:
                return PatchTokens(0, height, width)
    return None
