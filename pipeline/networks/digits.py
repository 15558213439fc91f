"""The default network: a small convolutional network for scikit-learn's digits, and the training of its weights.

``python -m pipeline.networks.digits`` trains it and writes ``data/digits_cnn.safetensors``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.arrays import BoolArray
from pipeline.resources import shipped_weights
from pipeline.sources.sklearn_digits import scans

SEED = 0
HELD_OUT = 5  # every fifth scan is held out of the training


class DigitsCNN(nn.Module):
    """Three convolutions at full resolution, global average pooling, one linear layer: (n, 1, h, w) to (n, 10).

    Only pooling lies between the last maps and the linear layer, so that class activation maps are defined.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, (n_images, 10), of images of shape (n_images, 1, height, width)."""
        maps = self.relu1(self.conv1(images))
        maps = self.relu2(self.conv2(maps))
        maps = self.relu3(self.conv3(maps))
        logits: torch.Tensor = self.classifier(self.pool(maps).flatten(1))
        return logits


def digits_cnn() -> DigitsCNN:
    """Return the network with randomly initialised weights."""
    return DigitsCNN()


def held_out_split() -> tuple[BoolArray, torch.Tensor, torch.Tensor]:
    """Return the scans as inputs of the network.

    Returns
    -------
    is_held_out : ndarray of shape (n_scans,)
        bool; whether a scan is held out of the training.
    inputs : tensor of shape (n_scans, 1, 8, 8)
        float32, in [0, 1].
    digits : tensor of shape (n_scans,)
        int64, the digit that each scan shows.
    """
    images, digits = scans()
    inputs = torch.from_numpy(images).unsqueeze(1).float() / 255
    return np.arange(len(images)) % HELD_OUT == 0, inputs, torch.from_numpy(digits)


def accuracy(network: nn.Module) -> float:
    """Return the share of held-out scans that the network classifies correctly, in [0, 1]."""
    held_out, inputs, digits = held_out_split()
    with torch.inference_mode():
        return float((network.eval()(inputs[held_out]).argmax(1) == digits[held_out]).float().mean())


def train(epochs: int = 60) -> DigitsCNN:
    """Return the network trained on the scans that are not held out.

    The training is seeded: on one machine, the weights are the same every time.

    Parameters
    ----------
    epochs : int
        Number of passes over the training scans, at least 1.
    """
    torch.manual_seed(SEED)
    held_out, inputs, digits = held_out_split()
    inputs, digits = inputs[~held_out], digits[~held_out]
    network = digits_cnn().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-2)
    batches_per_epoch = -(-len(inputs) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * batches_per_epoch)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):  # type: ignore[no-untyped-call]
            # Shift the scans by up to one pixel in each direction, so that the network tolerates small shifts.
            shift = torch.randint(-1, 2, (2,)).tolist()
            shifted = torch.roll(inputs[batch], shift, dims=(2, 3))
            loss = nn.functional.cross_entropy(network(shifted), digits[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def main() -> None:
    """Train the network, print its accuracy on the held-out scans, and write its weights."""
    parser = argparse.ArgumentParser(description="Train digits_cnn (about a minute) and write its weights.")
    parser.add_argument("--output", type=Path, default=shipped_weights("digits_cnn"))
    output: Path = parser.parse_args().output
    network = train()
    print(f"held-out accuracy {accuracy(network):.4f}")
    output.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, output)
    print(f"wrote {output} ({output.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
