"""Train the network of this example on MNIST, and write its weights.

``python -m examples.mnist.train`` downloads MNIST to ``data/`` with torchvision, if it is not there, trains for two
epochs on the CPU (about a minute) and writes ``data/mnist_cnn.safetensors``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST

from examples.mnist.network import mnist_cnn


def images_of(data: MNIST) -> TensorDataset:
    """Return the images, (n, 1, 28, 28) with values in [0, 1], and their labels."""
    return TensorDataset(data.data[:, None].float() / 255, data.targets)


def train(data: TensorDataset, n_epochs: int, seed: int) -> nn.Module:
    """Return the network, trained with Adam on batches of 64 images; the same seed gives the same weights."""
    torch.manual_seed(seed)
    network = mnist_cnn()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(n_epochs):
        for images, labels in DataLoader(data, batch_size=64, shuffle=True):
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(network(images), labels))
            optimiser.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, data: TensorDataset) -> float:
    """Return the share of the images that are classified correctly."""
    n_correct = sum(
        int((network(images).argmax(1) == labels).sum()) for images, labels in DataLoader(data, batch_size=500)
    )
    return n_correct / len(data)


def main() -> None:
    """Train the network and write its weights."""
    parser = argparse.ArgumentParser(prog="python -m examples.mnist.train", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the data set (data)")
    parser.add_argument("--epochs", type=int, default=2, help="number of passes over the training images (2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the order of the images (0)")
    parser.add_argument("--no-download", action="store_true", help="fail if the data set is not in the folder")
    parser.add_argument("--output", type=Path, default=Path("data/mnist_cnn.safetensors"), help="file of the weights")
    given = parser.parse_args()
    training, test = (
        images_of(MNIST(given.root, train=is_training, download=not given.no_download)) for is_training in (True, False)
    )
    network = train(training, given.epochs, given.seed)
    print(f"{len(training):,} training images; accuracy on {len(test):,} test images: {accuracy(network, test):.1%}")
    given.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), given.output)
    print(given.output)


if __name__ == "__main__":
    main()
