"""The network whose channels are ranked. Replace it by your own: `network` may return any PyTorch module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

CLASSES = ("horizontal", "vertical")
IMAGES = Path(__file__).parent / "images"


class Network(nn.Module):
    """Two convolutions and a linear layer, for colour images of 32 x 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 24, 3, padding=1)
        self.classifier = nn.Linear(24, len(CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return one score for each class, of shape (n, 2), for images of shape (n, 3, 32, 32)."""
        maps = nn.functional.max_pool2d(nn.functional.relu(self.conv1(images)), 2)
        maps = nn.functional.relu(self.conv2(maps))
        scores: torch.Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return scores


def network() -> Network:
    """Return the trained network; `model.factory` in conf/experiment/mine.yaml names this function.

    A network of your own is usually trained already: build it here, and name the file with its weights in
    `model.checkpoint`, or load it here with `load_state_dict`. This one is small enough to be trained in a few seconds;
    the weights are kept in weights.pt.
    """
    made = Network()
    weights = Path(__file__).parent / "weights.pt"
    if not weights.exists():
        torch.save(trained_weights(), weights)
    made.load_state_dict(torch.load(weights, weights_only=True))
    return made


def trained_weights() -> dict[str, torch.Tensor]:
    """Train the network on the example images, and return its weights."""
    paths = sorted(IMAGES.glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(path), dtype=np.float32) for path in paths])
    # The same normalisation as in conf/experiment/mine.yaml: to [0, 1], then minus 0.5 and divided by 0.25.
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    classes = torch.tensor([CLASSES.index(path.parent.name) for path in paths])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Network()
        optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
        for _ in range(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(made(images), classes).backward()
            optimizer.step()
    return made.state_dict()
