"""Networks with other outputs, inputs and number formats than one tensor of float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pcace

QUICK: dict[str, Any] = {"bootstrap": 0, "progress": False}


@dataclass
class Output:
    """An object with scores, as in the library transformers."""

    logits: torch.Tensor
    features: torch.Tensor


class Network(nn.Module):
    """A network that returns its scores in some container."""

    def __init__(self, container: str) -> None:
        super().__init__()
        self.conv, self.head, self.container = nn.Conv2d(1, 6, 3), nn.Linear(216, 3), container

    def forward(self, images: torch.Tensor) -> Any:
        features = self.conv(images)
        scores = self.head(features.relu().flatten(1))
        containers: dict[str, Any] = {
            "tensor": scores,
            "object": Output(scores, features),
            "dictionary": {"features": features, "logits": scores},
            "dictionary of one": {"out": scores},
            "tuple": (scores, None),
            "features and scores": (features, scores),
        }
        return containers[self.container]


class Named(nn.Module):
    """A network that takes its images by name, after a text that may be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Network("tensor")

    def forward(self, input_ids: torch.Tensor | None = None, pixel_values: torch.Tensor | None = None) -> Any:
        assert input_ids is None
        assert pixel_values is not None
        return self.inner(pixel_values)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def seeded(make: Any, *arguments: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(*arguments)


def plain(images: torch.Tensor, ranker: str) -> pcace.Ranking:
    return pcace.rank(seeded(Network, "tensor"), images, "conv", 1, ranker=ranker, **QUICK)


COMPLETE = ["conductance", "integrated_gradients"]  # those that also work where the network cannot be traced
RANKERS = ["pearson", "gradient_x_activation", "ablation", *COMPLETE]


@pytest.mark.parametrize("ranker", RANKERS)
@pytest.mark.parametrize("container", ["object", "dictionary", "dictionary of one", "tuple"])
def test_the_scores_are_found_in_what_a_network_returns(container: str, ranker: str, images: torch.Tensor) -> None:
    found = pcace.rank(seeded(Network, container), images, "conv", 1, ranker=ranker, **QUICK)
    np.testing.assert_allclose(found.to_frame().score, plain(images, ranker).to_frame().score, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ranker", RANKERS)
def test_a_function_reads_the_scores_where_they_are_not_known(ranker: str, images: torch.Tensor) -> None:
    network = seeded(Network, "features and scores")
    found = pcace.rank(network, images, "conv", lambda outputs: outputs[1][:, 1], ranker=ranker, **QUICK)
    np.testing.assert_allclose(found.to_frame().score, plain(images, ranker).to_frame().score, rtol=0, atol=1e-6)
    with pytest.raises(pcace.PipelineError, match=r"^the network must return one row of scores per image.* got tuple"):
        pcace.rank(network, images, "conv", 1, ranker=ranker, **QUICK)
    assert pcace.layers(network, images).layer.tolist() == ["conv", "head"]


@pytest.mark.parametrize("ranker", RANKERS)
def test_a_function_of_the_outputs_is_ranked_by_every_ranker(ranker: str, images: torch.Tensor) -> None:
    """The gradients and the ablations are those of the function, and not of an output of the network."""
    network = seeded(Network, "tensor")
    found = pcace.rank(network, images, "conv", lambda outputs: outputs[:, 1] - outputs[:, 0], ranker=ranker, **QUICK)
    merged = seeded(Network, "tensor")
    with torch.no_grad():
        merged.head.weight[1] -= merged.head.weight[0]
        merged.head.bias[1] -= merged.head.bias[0]
    expected = pcace.rank(merged, images, "conv", 1, ranker=ranker, **QUICK)
    np.testing.assert_allclose(found.to_frame().score, expected.to_frame().score, rtol=0, atol=1e-5)
    assert found.channels == expected.channels


@pytest.mark.parametrize("ranker", RANKERS)
def test_images_in_dictionaries_are_passed_by_their_name(ranker: str, images: torch.Tensor) -> None:
    batches = ({"labels": torch.zeros(8), "pixel_values": batch} for batch in torch.split(images, 8))
    network = seeded(Named)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network.inner = Network("tensor")
    found = pcace.rank(network, batches, "inner.conv", 1, ranker=ranker, **QUICK)
    np.testing.assert_allclose(found.to_frame().score, plain(images, ranker).to_frame().score, rtol=0, atol=1e-6)
    assert pcace.layers(network, {"pixel_values": images}).layer.tolist()[0] == "inner.conv"


def test_deeplift_is_refused_where_it_would_see_other_outputs(images: torch.Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    pcace.rank(network, images, "0", 1, ranker="deeplift", **QUICK)
    with pytest.raises(pcace.PipelineError) as caught:
        pcace.rank(network, images, "0", lambda outputs: outputs[:, 1], ranker="deeplift", **QUICK)
    assert str(caught.value) == (
        "ranker must not be deeplift for a function of the outputs, or for images that are passed by name; got "
        "deeplift. Choose another ranker, for example conductance."
    )


@pytest.mark.parametrize("ranker", ["ablation", "gradient_x_activation", *COMPLETE])
def test_hooks_of_the_network_itself_are_part_of_it(ranker: str, images: torch.Tensor) -> None:
    """A graph of torch.fx would not contain them: the whole network runs."""
    network = seeded(Network, "tensor")
    network.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    doubled = pcace.rank(network, images, "conv", 1, ranker=ranker, **QUICK).scores.values[ranker]
    single = plain(images, ranker).scores.values[ranker]
    np.testing.assert_allclose(doubled, 2 * single, rtol=1e-4)
    assert len(network._forward_hooks) == 1


def test_deeplift_is_refused_for_a_network_with_hooks_of_its_own(images: torch.Tensor) -> None:
    network = seeded(Network, "tensor")
    network.register_forward_pre_hook(lambda _module, inputs: (2 * inputs[0],))
    with pytest.raises(pcace.PipelineError) as caught:
        pcace.rank(network, images, "conv", 1, ranker="deeplift", **QUICK)
    assert str(caught.value) == (
        'the network must be traceable by torch.fx for ranker="deeplift"; got one that is not. Choose another ranker, '
        'for example ranker="conductance".'
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("ranker", [*RANKERS, "deeplift"])
def test_networks_of_other_number_formats(dtype: torch.dtype, ranker: str, images: torch.Tensor) -> None:
    network = seeded(Network, "tensor").to(dtype)
    found = pcace.rank(network, images, "conv", 1, ranker=ranker, **QUICK)
    assert found.activations.class_score.dtype == np.float64
    assert network.conv.weight.dtype == dtype
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    np.testing.assert_allclose(
        found.scores.values[ranker], plain(images, ranker).scores.values[ranker], rtol=0, atol=tolerance
    )


def test_an_exception_of_a_function_is_reported_with_its_place(images: torch.Tensor) -> None:
    def wrong(outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, 7]

    with pytest.raises(pcace.PipelineError) as caught:
        pcace.rank(seeded(Network, "tensor"), images, "conv", wrong, ranker="pearson", **QUICK)
    line = wrong.__code__.co_firstlineno + 1
    assert str(caught.value) == (
        "target must return one number for each image; got IndexError: index 7 is out of bounds for dimension 1 with "
        f"size 3 ({__file__}:{line}, outputs of type Tensor). Correct the function."
    )
