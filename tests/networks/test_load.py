from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.checkpoints import read_checkpoint
from pipeline.networks.digits import accuracy, digits_cnn
from pipeline.networks.identity import identity
from pipeline.networks.load import check_weights, class_names, load
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


@pytest.mark.parametrize("form", ["safetensors", "pth", "nested", "parallel"])
def test_all_formats_of_checkpoints_give_the_same_network(
    form: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "pth":
        torch.save(state, path)
    elif form == "nested":
        torch.save({"epoch": 3, "state_dict": state}, path)
    else:
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    loaded = load(model(f"model.checkpoint={path}"), seed=0).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_random_weights_are_seeded_without_changing_the_global_generator() -> None:
    settings = model("model.weights=random")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, again, other = (load(settings, seed).state_dict()["conv1.weight"] for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a checkpoint ran",)


def test_a_checkpoint_that_contains_code_is_rejected_and_the_code_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {"weight": Payload()}}, tmp_path / "evil.pth")
    with pytest.raises(NetworkError) as caught:
        read_checkpoint(tmp_path / "evil.pth")
    assert str(caught.value) == (
        f"model.checkpoint must contain only tensors; got {tmp_path / 'evil.pth'}, which contains other Python objects "
        "(which could run code). Convert a trusted file: "
        "torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW)."
    )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_checkpoint_that_cannot_be_read_gives_an_error_of_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x02 this is no checkpoint")
    with pytest.raises(NetworkError) as caught:
        read_checkpoint(tmp_path / name)
    assert str(caught.value).startswith("model.checkpoint must ")
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        check_weights(model(f"model.checkpoint={tmp_path / 'none.pth'}"))
    assert str(caught.value) == (
        f"model.checkpoint must be an existing file; got {tmp_path / 'none.pth'}. Give the path of the weights."
    )


def test_the_message_about_a_checkpoint_that_does_not_fit_lists_the_entries(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    wrong = {**state, "extra": torch.zeros(1), "conv1.bias": torch.zeros(3)}
    del wrong["conv2.weight"]
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(NetworkError) as caught:
        check_weights(model(f"model.checkpoint={tmp_path / 'wrong.safetensors'}"))
    assert str(caught.value) == (
        f"model.checkpoint must fit the network; got {tmp_path / 'wrong.safetensors'} (missing: conv2.weight; "
        "unexpected: extra; wrong shape: conv1.bias (3,) instead of (16,)). "
        "Check model.name, model.factory and model.arguments."
    )


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


def test_published_weights_are_read_from_the_cache_of_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = SqueezeNet1_1_Weights.IMAGENET1K_V1
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    expected = squeezenet1_1(weights=None).state_dict()
    torch.save(expected, folder / weights.url.rsplit("/", 1)[-1])
    settings = model("model=squeezenet1_1")
    loaded = load(settings, seed=0).state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    names = class_names(settings)
    assert names is not None
    assert names[281] == "tabby"


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
