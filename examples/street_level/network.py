"""A regression network: EfficientNet-Lite0 with one output in place of its classifier."""

from __future__ import annotations

from torch import nn

from examples.efficientnet_lite0.network import efficientnet_lite0


def street_level() -> nn.Module:
    """Return the network; its trunk has the weights of ImageNet, and its last layer is random until it is trained.

    Input and trunk are those of `examples.efficientnet_lite0`; the output has the shape (n_images, 1).
    """
    network = efficientnet_lite0()
    network._fc = nn.Linear(1280, 1)
    return network
