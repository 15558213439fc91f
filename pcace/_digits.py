"""`pcace.digits`: a small trained network and images, for first steps and examples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from pipeline.networks.checkpoints import read_checkpoint
from pipeline.networks.digits import digits_cnn, held_out_split
from pipeline.resources import shipped_weights


class Digits(NamedTuple):
    """A trained network and the images that it classifies; `pcace.digits` returns it.

    Attributes
    ----------
    model : Module
        Three convolutions, global average pooling and a linear layer, in evaluation mode.
    images : tensor of shape (1797, 1, 8, 8)
        Scans of handwritten digits in [0, 1], float32.
    labels : tensor of shape (1797,)
        The digits, int64.
    """

    model: nn.Module
    images: torch.Tensor
    labels: torch.Tensor


def digits() -> Digits:
    """Return the network and the images of the default settings, both of which are part of the packages.

    Nothing is downloaded. The images are scikit-learn's handwritten digits.

    Returns
    -------
    Digits
        The network, the images and their labels.

    Examples
    --------
    >>> import pcace
    >>> model, images, labels = pcace.digits()
    >>> ranking = pcace.rank(model, images[labels == 5], "conv3", target=5, n_images=150, permutations=20, bootstrap=20)
    >>> len(ranking.channels)
    64
    """
    model = digits_cnn()
    model.load_state_dict(read_checkpoint(shipped_weights("digits_cnn")))
    _, images, labels = held_out_split()
    return Digits(model.eval(), images, labels)
