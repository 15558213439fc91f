"""A small network for MNIST: two convolutions with pooling, and two linear layers."""

from __future__ import annotations

from torch import nn


def mnist_cnn() -> nn.Module:
    """Return the network with randomly initialised weights; it takes (n, 1, 28, 28) and returns (n, 10) logits."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
