"""Small networks that several test modules examine."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.networks.contributed import Contributions, ContributionsOfLayers


def only(of_layers: ContributionsOfLayers) -> Contributions:
    """Return the contributions for the only one of the layers."""
    return lambda inputs: of_layers(inputs)[0]


class Token(nn.Module):
    """A network whose layer `attention` returns a tuple, with the channels on the last axis of its tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = images.flatten(2).transpose(1, 2)
        return self.head((tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]).mean(dim=1))


class Deciding(nn.Module):
    """A network with a branch that depends on the activations, so that torch.fx cannot trace it."""

    def __init__(self, n_inputs: int = 3, n_outputs: int = 4) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(n_inputs, 6, 3), nn.Linear(6, n_outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        if maps.sum() > 1e9:
            maps = maps * 0
        return self.head(maps.relu().mean(dim=(2, 3)))


class Frozen(nn.Module):
    """A network that runs its layer `conv` under ``torch.no_grad``, so that no gradient reaches it, or without."""

    def __init__(self, n_inputs: int = 3, n_outputs: int = 4, is_frozen: bool = True) -> None:
        super().__init__()
        self.conv, self.is_frozen = nn.Conv2d(n_inputs, 6, 3), is_frozen
        self.head = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, n_outputs))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            features = self.conv(images).relu().mean(dim=(2, 3))
        return self.head(features)


class Branching(nn.Module):
    """Two parallel branches, a module that runs twice, one whose output is no tensor, and a batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3, padding=1)
        self.relu, self.pair = nn.ReLU(), Pair()
        self.fc = nn.Linear(10 * 16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.stem(images))
        left, right = self.pair(self.left(maps), self.right(maps))
        return self.fc(self.relu(torch.cat([left, right], dim=1)).flatten(1))


class Pair(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return left, right
