from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import densenet121, resnet18, squeezenet1_1, vgg11

from pipeline.networks.attribution import class_activation, grad_cam
from pipeline.networks.digits import digits_cnn
from tests.helpers.networks import Frozen


def n_hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


@pytest.mark.parametrize(
    ("network", "shape"),
    [(digits_cnn, (2, 1, 8, 8)), (resnet18, (2, 3, 96, 96)), (densenet121, (2, 3, 96, 96))],
    ids=["pooling as a module", "resnet18", "pooling as a function"],
)
def test_the_mean_of_a_cam_is_the_logit_without_its_bias(
    network: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    built: nn.Module = network().eval()
    inputs = torch.randn(shape)
    found = class_activation(built, inputs, target_class=3)
    assert found.method == "CAM"
    assert found.target_maps is not None
    assert found.predicted_maps is not None
    with torch.inference_mode():
        logits = built(inputs)
    bias = [module for module in built.modules() if isinstance(module, nn.Linear)][-1].bias
    scores = (logits - bias).detach().numpy()
    np.testing.assert_allclose(found.target_maps.mean(axis=(1, 2)), scores[:, 3], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found.predicted, logits.argmax(1).numpy())
    of_predicted = scores[np.arange(len(inputs)), found.predicted]
    np.testing.assert_allclose(found.predicted_maps.mean(axis=(1, 2)), of_predicted, rtol=1e-3, atol=1e-4)
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert n_hooks(built) == 0


def test_cam_is_the_weighted_sum_of_features_and_proportional_to_grad_cam() -> None:
    torch.manual_seed(1)
    network = resnet18().eval()
    inputs = torch.randn(3, 3, 224, 224)
    with torch.inference_mode():
        maps = network.conv1(inputs)
        maps = network.maxpool(network.relu(network.bn1(maps)))
        features = network.layer4(network.layer3(network.layer2(network.layer1(maps))))
        expected = (network.fc.weight[7].view(1, -1, 1, 1) * features).sum(dim=1).numpy()
    cam = class_activation(network, inputs, target_class=7).target_maps
    assert cam is not None
    assert np.abs(cam - expected).max() <= 1e-5 * np.abs(expected).max()
    gradient_based = grad_cam(network, network.layer4, inputs, torch.tensor([7, 7, 7]))
    assert np.abs(gradient_based * 49 - cam).max() <= 1e-5 * np.abs(cam).max()
    assert all(module.inplace for module in network.modules() if isinstance(module, nn.ReLU))
    assert n_hooks(network) == 0


@pytest.mark.parametrize(("network", "side"), [(vgg11, 4), (squeezenet1_1, 3)])
def test_networks_without_global_average_pooling_before_one_linear_layer_have_grad_cam(
    network: Callable[..., nn.Module], side: int
) -> None:
    torch.manual_seed(0)
    built = network(num_classes=5).eval().requires_grad_(False)
    found = class_activation(built, torch.randn(2, 3, 64, 64), target_class=3)
    assert found.method == "Grad-CAM"
    assert found.target_maps is not None
    assert found.target_maps.shape == (2, side, side)
    assert found.target_maps.std() > 0
    assert found.probabilities is not None
    assert found.probabilities.shape == (2, 5)
    assert n_hooks(built) == 0


def test_a_network_without_maps_has_no_class_activation_maps() -> None:
    torch.manual_seed(0)
    built = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    found = class_activation(built, torch.randn(2, 1, 8, 8), target_class=0)
    assert (found.method, found.target_maps, found.predicted_maps) == (None, None, None)


@pytest.mark.parametrize(
    ("network", "failure"),
    [
        (Frozen(), "no gradient of the class score reaches the last convolution"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardtanh(10, 11), nn.Flatten(), nn.Linear(4 * 49, 4)),
            "the gradient of the class score is 0 at the last convolution",
        ),
    ],
)
def test_there_is_no_grad_cam_without_a_gradient_but_there_are_predictions(network: nn.Module, failure: str) -> None:
    found = class_activation(network.eval().requires_grad_(False), torch.randn(2, 3, 9, 9), target_class=1)
    assert (found.method, found.target_maps, found.predicted_maps) == (None, None, None)
    assert found.failure == failure
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
