from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import densenet121, resnet18, squeezenet1_1, vgg11

from pipeline.figures.cam import look
from pipeline.networks.digits import digits_cnn


@pytest.mark.parametrize(
    ("network", "shape"),
    [(digits_cnn, (2, 1, 8, 8)), (resnet18, (2, 3, 96, 96)), (densenet121, (2, 3, 96, 96))],
    ids=["module", "resnet18", "functional"],
)
def test_the_maps_mean_is_the_class_score_less_its_bias(network, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    built: nn.Module = network().eval()
    inputs = torch.randn(shape)
    seen = look(built, inputs, target_class=3)
    assert seen.cam is not None
    with torch.inference_mode():
        logits = built(inputs)
    bias = [module for module in built.modules() if isinstance(module, nn.Linear)][-1].bias[3]
    np.testing.assert_allclose(seen.cam.mean(axis=(1, 2)), (logits[:, 3] - bias).detach().numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(seen.probabilities.sum(axis=1), 1, atol=1e-5)
    assert sum(len(module._forward_hooks) for module in built.modules()) == 0


@pytest.mark.parametrize("network", [vgg11, squeezenet1_1])
def test_networks_of_another_form_have_no_cam(network) -> None:
    torch.manual_seed(0)
    seen = look(network(num_classes=5).eval(), torch.randn(1, 3, 64, 64), target_class=0)
    assert seen.cam is None
    assert seen.probabilities.shape == (1, 5)
