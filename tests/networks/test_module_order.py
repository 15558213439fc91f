from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.config import compose_settings
from pipeline.errors import NetworkError, SettingsError
from pipeline.networks.identity import identity
from pipeline.networks.load import check_weights, load, weighted_modules
from pipeline.networks.module_order import in_forward_order
from pipeline.settings import ModelSettings

DIGITS = ["conv1", "conv2", "conv3", "classifier"]


@pytest.fixture(scope="module")
def model() -> ModelSettings:
    return compose_settings([]).model


def state(model: ModelSettings, randomized: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return load(replace(model, randomized=randomized), seed).state_dict()


@pytest.mark.parametrize("randomized", range(5))
def test_only_the_last_modules_are_randomized_and_the_others_keep_their_weights_exactly(
    model: ModelSettings, randomized: int
) -> None:
    trained, found = state(model, 0), state(model, randomized)
    same = [name for name in DIGITS if torch.equal(trained[f"{name}.weight"], found[f"{name}.weight"])]
    assert same == DIGITS[: 4 - randomized]
    assert same == [name for name in DIGITS if torch.equal(trained[f"{name}.bias"], found[f"{name}.bias"])]


def test_the_random_weights_are_seeded_and_do_not_depend_on_the_number_of_modules(model: ModelSettings) -> None:
    one, deeper, other = state(model, 1, 7), state(model, 3, 7), state(model, 1, 8)
    assert torch.equal(one["classifier.weight"], deeper["classifier.weight"])
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


def test_a_network_with_all_modules_randomized_equals_one_with_random_weights(model: ModelSettings) -> None:
    everything, built = state(model, 4, seed=3), state(replace(model, weights="random"), 0, seed=3)
    assert all(torch.equal(everything[name], built[name]) for name in built)


def test_a_batch_normalisation_counts_as_a_module() -> None:
    modules = weighted_modules(compose_settings(["model=cifar10_resnet20"]).model)
    assert (len(modules), modules[:2]) == (39, ["conv1", "bn1"])
    assert modules[-3:] == ["layer3.2.conv2", "layer3.2.bn2", "linear"]


def test_the_running_statistics_of_a_randomized_batch_normalisation_are_reset(resnet20_weights: object) -> None:
    model = compose_settings(["model=cifar10_resnet20", f"model.checkpoint={resnet20_weights}"]).model
    trained, built = state(model, 0), state(replace(model, checkpoint=None), 0)
    two = state(model, 2)
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(two[f"layer3.2.bn2.{name}"], built[f"layer3.2.bn2.{name}"])
        assert torch.equal(two[f"layer3.2.bn1.{name}"], trained[f"layer3.2.bn1.{name}"])
    assert not torch.equal(two["layer3.2.bn2.running_var"], trained["layer3.2.bn2.running_var"])
    everything = state(model, 39)
    assert all(torch.equal(everything[name], built[name]) for name in built if not name.endswith("num_batches_tracked"))


def test_the_global_generator_is_not_changed(model: ModelSettings) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    state(model, 2, seed=9)
    assert torch.equal(torch.rand(1), expected)


class Backwards(nn.Module):
    """Modules that run in the reverse order of their definition, a parameter, and a module that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.embedding = nn.Linear(3, 4)
        self.token = nn.Parameter(torch.zeros(4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = torch.relu(self.embedding(images.flatten(2).transpose(1, 2))) + self.token
        attended, _ = self.attention(tokens, tokens, tokens)
        scores: torch.Tensor = self.head(self.norm(attended).mean(1))
        return scores


def test_the_order_is_that_of_the_forward_pass() -> None:
    # The token belongs to the network. Modules that do not run (unused, out_proj) are placed with their parents.
    expected = ["", "unused", "embedding", "attention", "attention.out_proj", "norm", "head"]
    assert in_forward_order(Backwards().eval(), torch.zeros(2, 3, 4, 4)) == expected


def test_the_identity_without_randomized_modules_does_not_depend_on_the_seed(model: ModelSettings) -> None:
    assert identity(model, seed=1) == identity(model, seed=0)


def test_the_identity_contains_the_number_of_randomized_modules_and_the_seed(model: ModelSettings) -> None:
    found = [identity(replace(model, randomized=depth), seed) for depth, seed in ((0, 0), (1, 0), (2, 0), (1, 1))]
    assert all(one != other for index, one in enumerate(found) for other in found[:index])
    assert all(each["architecture"] == found[0]["architecture"] for each in found)


def test_more_modules_than_the_network_has_are_rejected_before_anything_is_computed(model: ModelSettings) -> None:
    with pytest.raises(NetworkError) as caught:
        check_weights(replace(model, randomized=5))
    assert str(caught.value) == (
        "model.randomized must be at most 4, the number of modules with weights of their own; got 5 "
        "(model 'digits_cnn'). Lower it."
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.randomized=-1"], "model.randomized must be at least 0; got -1."),
        (["model.randomized=half"], 'model.randomized must be a whole number; got "half".'),
        (
            ["model.randomized=2", "model.weights=random"],
            "model.randomized must be 0 with model.weights=random; got 2, and nothing is trained. "
            "Give model.checkpoint, or published weights.",
        ),
    ],
)
def test_impossible_numbers_of_randomized_modules_are_rejected(overrides: list[str], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        compose_settings(overrides)
    assert str(caught.value) == expected
