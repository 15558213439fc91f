"""A ResNet-20 for 32 x 32 photographs, as He et al. (2015, arXiv 1512.03385, section 4.2) describe it.

Its shortcuts have no parameters (option A in the paper): where a block halves the size of the maps and doubles the
number of channels, the shortcut takes every other pixel, and the new channels are zero.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, and a shortcut without parameters."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.stride = stride
        self.n_added = n_out - n_in

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the block's output, (n, n_out, height / stride, width / stride)."""
        residual = functional.relu(self.bn1(self.conv1(maps)))
        residual = self.bn2(self.conv2(residual))
        shortcut = maps[:, :, :: self.stride, :: self.stride]
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, self.n_added // 2, self.n_added - self.n_added // 2))
        return functional.relu(residual + shortcut)


class ResNet20(nn.Module):
    """Three stages of three blocks with 16, 32 and 64 channels, global average pooling, and one linear layer."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, stride=1)
        self.layer2 = self._stage(16, 32, stride=2)
        self.layer3 = self._stage(32, 64, stride=2)
        self.linear = nn.Linear(64, n_classes)

    @staticmethod
    def _stage(n_in: int, n_out: int, stride: int) -> nn.Sequential:
        return nn.Sequential(BasicBlock(n_in, n_out, stride), BasicBlock(n_out, n_out, 1), BasicBlock(n_out, n_out, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, (n, n_classes), of images of shape (n, 3, 32, 32)."""
        maps = functional.relu(self.bn1(self.conv1(images)))
        maps = self.layer3(self.layer2(self.layer1(maps)))
        logits: torch.Tensor = self.linear(maps.mean(dim=(2, 3)))
        return logits


def resnet20(n_classes: int = 10) -> ResNet20:
    """Return the network with randomly initialised weights."""
    return ResNet20(n_classes)
