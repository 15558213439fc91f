"""A network in memory and the same network from settings are examined in the same way, to the last byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.artifacts import Activations, ImageSet, Workspace
from pipeline.errors import NetworkError
from pipeline.networks.digits import digits_cnn
from pipeline.networks.examined import ExaminedNetwork, NetworkRequest
from pipeline.networks.inputs import Inputs, TensorInputs
from pipeline.networks.load import load
from pipeline.networks.targets import score_of
from pipeline.resolve import resolve
from pipeline.stages import load_stage
from pipeline.stages.activate import activations_of
from tests.helpers.settings import Compose

BATCH_SIZE = 7


def ignore(done: int, total: int) -> None:
    """Accept the progress."""


def logit(outputs: torch.Tensor) -> torch.Tensor:
    return outputs[:, 3].double()


def activations(examined: ExaminedNetwork, inputs: Inputs) -> Activations:
    return activations_of(examined, inputs, BATCH_SIZE, Workspace(), ignore)


@pytest.mark.parametrize(
    "overrides",
    [
        ("layer=conv2",),
        ("layer=classifier", "target.score=margin"),
        ("layer=conv3", "target=regression", "target.output=2", "class_name=3"),
        ("model=resnet18", "model.weights=random", "target_class=8", "layer=layer4.1.conv2", "model.device=cpu"),
        ("model=torchvision", "model.name=swin_t", "model.weights=random", "target_class=8", "layer=features.1.0",
         "model.device=cpu", "n_images=5"),
    ],
    ids=["maps", "features", "a regression", "resnet18", "channels last"],
)  # fmt: skip
def test_a_module_and_settings_give_the_same_bytes(
    overrides: tuple[str, ...], compose: Compose, tmp_path: Path
) -> None:
    settings = resolve(compose(*overrides))
    images: ImageSet = load_stage("download").compute(settings, {}, Workspace(tmp_path), ignore)
    request = NetworkRequest.of(settings)
    opened, files = request.open(), request.inputs(images)
    pixels = files.read(slice(None))
    score = score_of(settings.target, settings.target_class)
    network = load(settings.model, settings.seed)
    in_memory = ExaminedNetwork.of_module(network, settings.layer, score, pixels[:2])
    assert (in_memory.layer, in_memory.device) == (opened.layer, opened.device)
    assert (in_memory.channels, in_memory.n_channels) == (opened.channels, opened.n_channels)
    assert in_memory.module is network.get_submodule(settings.layer)
    expected, found = activations(opened, files), activations(in_memory, TensorInputs([pixels]))
    assert found.maps.shape == (opened.n_channels, settings.n_images, *opened.layer.maps[1:])
    assert found.maps.tobytes() == expected.maps.tobytes()
    assert found.class_score.tobytes() == expected.class_score.tobytes()


def test_a_module_is_not_changed() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5)
    )
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    examined = ExaminedNetwork.of_module(network, "1", logit, torch.rand(2, 1, 8, 8))
    assert examined.network is network
    assert examined.layer.maps == (4, 6, 6)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_the_axis_of_the_channels_can_be_given() -> None:
    network, example = digits_cnn().eval(), torch.rand(2, 1, 8, 8)
    assert ExaminedNetwork.of_module(network, "conv1", logit, example).layer.maps == (16, 8, 8)
    last = ExaminedNetwork.of_module(network, "conv1", logit, example, "last")
    assert (last.channels, last.layer.maps) == ("last", (8, 16, 8))


def test_a_network_in_training_mode_is_rejected() -> None:
    network = digits_cnn().eval()
    network.relu1.train()
    with pytest.raises(NetworkError) as caught:
        ExaminedNetwork.of_module(network, "conv1", logit, torch.rand(2, 1, 8, 8))
    assert str(caught.value) == (
        "the network must be in evaluation mode; got modules in training mode (relu1). Call network.eval()."
    )
    with pytest.raises(NetworkError) as caught:
        ExaminedNetwork.of_module(network.train(), "conv1", logit, torch.rand(2, 1, 8, 8))
    assert str(caught.value) == (
        "the network must be in evaluation mode; got modules in training mode (the network, conv1, relu1 and 6 more). "
        "Call network.eval()."
    )


def test_an_unknown_layer_of_a_module_is_rejected() -> None:
    with pytest.raises(NetworkError, match=r"^layer must be one of the network's layers; got 'conv9'\. Nearest: conv3"):
        ExaminedNetwork.of_module(digits_cnn().eval(), "conv9", logit, torch.rand(2, 1, 8, 8))
