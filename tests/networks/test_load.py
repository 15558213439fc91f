from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.digits import accuracy, digits_cnn
from pipeline.networks.identity import identity
from pipeline.networks.load import check_weights, load
from pipeline.resources import shipped_weights
from pipeline.settings import ModelSettings


def model(*overrides: str) -> ModelSettings:
    return compose_settings(overrides).model


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: value.clone() for name, value in digits_cnn().state_dict().items()}


def test_the_shipped_weights_classify_held_out_scans_correctly() -> None:
    assert accuracy(load(model(), seed=0)) >= 0.97


def test_the_file_of_the_shipped_weights_is_small() -> None:
    assert shipped_weights("digits_cnn").stat().st_size < 500_000


def test_random_weights_are_seeded_without_changing_the_global_generator() -> None:
    settings = model("model.weights=random")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, again, other = (load(settings, seed).state_dict()["conv1.weight"] for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_unknown_models_weights_and_factories_are_rejected() -> None:
    with pytest.raises(NetworkError, match=r"^model\.name must be a torchvision .* got 'resnet19'\. Nearest: resnet1"):
        check_weights(model("model=torchvision", "model.name=resnet19"))
    with pytest.raises(NetworkError) as caught:
        check_weights(model("model=vgg16", "model.weights=IMAGENET"))
    assert str(caught.value) == (
        "model.weights must be IMAGENET1K_V1, IMAGENET1K_FEATURES or random; got 'IMAGENET' (model 'vgg16'). "
        "Set model.checkpoint to use a file of your own."
    )
    with pytest.raises(
        NetworkError, match=r"^model\.factory must be importable .* \(No module named 'nowhere'\)\. Run from"
    ):
        load(model("model.factory=nowhere:network"), seed=0)


def test_the_identity_contains_the_weights_and_no_paths(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "w.safetensors")
    one, two = (
        identity(model(f"model.checkpoint={tmp_path / name / 'w.safetensors'}"), seed=0) for name in ["one", "two"]
    )
    assert one == two
    assert one != identity(model(), seed=0)
    assert identity(model("model.weights=random"), seed=0) != identity(model("model.weights=random"), seed=1)
    assert str(tmp_path) not in str(one)
