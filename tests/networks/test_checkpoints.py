"""Files of weights as training scripts leave them, and networks that name their weights in other ways."""

from __future__ import annotations

import argparse
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.checkpoints import load_weights, read_checkpoint
from pipeline.networks.digits import digits_cnn
from pipeline.networks.load import check_weights, load
from pipeline.settings import ModelSettings


def model(path: Path) -> ModelSettings:
    return compose_settings([f"model.checkpoint={path}"]).model


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: value.clone() for name, value in digits_cnn().state_dict().items()}


class Config(dict[str, Any]):
    """A dictionary with its own class, such as those of configuration packages."""


class Names(list[str]):
    """A list with its own class."""


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from a checkpoint ran",)


FORMS: dict[str, Callable[[Any], Any]] = {
    "state dict": lambda state: state,
    "nested": lambda state: {"epoch": 3, "state_dict": state},
    "nested twice": lambda state: {"model": {"state_dict": state}, "scores": [1.0, 2.0]},
    "under another name": lambda state: {"net": state, "acc": 92.6, "epoch": 3},
    "under an unknown name": lambda state: {"best_acc": torch.tensor(0.9), "classifier_v2": state, "lr": 0.1},
    "beside an average": lambda state: {"ema": {k: v + 1 for k, v in state.items()}, "model": state},
    "DataParallel": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "torch.compile": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "both": lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
    "options": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1, path=Path("a"))},
    "NumPy": lambda state: {
        "state_dict": state,
        "best": np.float64(92.6),
        "losses": np.ones(3),
        "type": np.dtype("f4"),
    },
    "configuration": lambda state: {"state_dict": state, "hyper": Config(lr=0.1, sub=Config(a=Names(["b"])))},
    "counts": lambda state: {"state_dict": state, "seen": defaultdict(int, {"a": 1}), "x": SimpleNamespace(a=Names())},
    "weights in a configuration": lambda state: Config(epoch=1, state_dict=Config(state)),
    "code beside the weights": lambda state: {"state_dict": state, "hook": Payload()},
}


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_weights_are_found_in_what_training_scripts_save(
    form: str, is_old: bool, state: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(FORMS[form](state), path, _use_new_zipfile_serialization=not is_old)
    loaded = load(model(path), seed=0).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert capsys.readouterr().out == ""  # no code of the file ran


def test_weights_in_the_format_safetensors_are_read(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.safetensors")
    loaded = load(model(tmp_path / "w.safetensors"), seed=0).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def refused(path: Path) -> str:
    with pytest.raises(NetworkError) as caught:
        check_weights(model(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "described"),
    [
        ({"state_dict": {"weight": Payload()}}, "the entries state_dict"),
        ({"epoch": 3, "optimizer": {"lr": 0.1}}, "the entries epoch, optimizer"),
        (Payload(), "a pickled object"),
        (torch.zeros(3), "an object of the type Tensor"),
    ],
)
def test_a_file_without_weights_is_rejected_and_its_code_does_not_run(
    content: Any, described: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "no.pth")
    assert refused(tmp_path / "no.pth") == (
        f"model.checkpoint must contain a state_dict (names and tensors); got {tmp_path / 'no.pth'}, which contains "
        f"{described}. Save one with torch.save(network.state_dict(), FILE)."
    )
    assert capsys.readouterr().out == ""


def test_a_whole_network_in_a_file_is_rejected(tmp_path: Path) -> None:
    torch.save(digits_cnn(), tmp_path / "whole.pth")
    assert "which contains a pickled object. Save one with torch.save(network.state_dict()" in refused(
        tmp_path / "whole.pth"
    )


def test_a_file_that_only_unsafe_reading_can_read_is_rejected_with_advice(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "new.pth", pickle_protocol=4)
    assert refused(tmp_path / "new.pth") == (
        f"model.checkpoint must be readable without executing code; got {tmp_path / 'new.pth'}, which contains more "
        "than tensors and plain values (Unsupported operand 149). If you trust the file, read it with "
        "torch.load(FILE, weights_only=False), and save the state_dict in it alone with torch.save."
    )


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_checkpoint_that_cannot_be_read_gives_an_error_of_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x02 this is no checkpoint")
    found = refused(tmp_path / name)
    assert found.startswith("model.checkpoint must ")
    assert "\n" not in found


def test_a_missing_checkpoint_is_rejected(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.pth") == (
        f"model.checkpoint must be an existing file; got {tmp_path / 'none.pth'}. Give the path of the weights."
    )


def test_the_message_about_a_checkpoint_that_does_not_fit_lists_the_entries(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    wrong = {**state, "extra": torch.zeros(1), "conv1.bias": torch.zeros(3)}
    del wrong["conv2.weight"]
    save_file(wrong, tmp_path / "wrong.safetensors")
    assert refused(tmp_path / "wrong.safetensors") == (
        f"model.checkpoint must fit the network; got {tmp_path / 'wrong.safetensors'} (missing: conv2.weight; "
        "unexpected: extra; wrong shape: conv1.bias (3,) instead of (16,)). "
        "Check model.name, model.factory and model.arguments."
    )


class Scaled(nn.Module):
    """A network whose part is called `module`."""

    def __init__(self) -> None:
        super().__init__()
        self.module = digits_cnn()


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = inner, nn.Linear(2, 2)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": digits_cnn,
    "DataParallel": lambda: nn.DataParallel(digits_cnn()),
    "a part called module": Scaled,
    "DataParallel of a part called module": lambda: nn.DataParallel(Scaled()),
    "compiled": lambda: cast("nn.Module", torch.compile(digits_cnn())),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # in torch.compile
@pytest.mark.parametrize("target", NETWORKS)
@pytest.mark.parametrize("source", NETWORKS)
def test_wrapped_and_plain_networks_take_the_weights_of_one_another(source: str, target: str) -> None:
    torch.manual_seed(2)
    trained, network = NETWORKS[source](), NETWORKS[target]()
    load_weights(network, trained.state_dict(), "a file")
    pairs = zip(trained.state_dict().values(), network.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_part_that_was_wrapped_takes_its_weights() -> None:
    torch.manual_seed(3)
    trained, network = Outer(nn.DataParallel(nn.Linear(2, 3))), Outer(nn.Linear(2, 3))
    load_weights(network, trained.state_dict(), "a file")
    inner = trained.backbone.module
    assert isinstance(inner, nn.Linear)
    assert torch.equal(network.backbone.weight, inner.weight)  # type: ignore[arg-type]
    both = nn.ModuleDict({"module": nn.Linear(2, 3), "_orig_mod": nn.Linear(2, 3)})  # names are ambiguous without parts
    load_weights(both, {name: value + 1 for name, value in both.state_dict().items()}, "a file")


class Versioned(nn.Module):
    """A module that reads the weights of version 1, in which they had another name and the opposite sign."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, metadata: Any, *rest: Any) -> None:
        version = metadata.get("version")
        if version is None:
            raise ValueError("version must be set")
        if version == 1 and f"{prefix}negative" in state:
            state[f"{prefix}weight"] = -state.pop(f"{prefix}negative")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


@pytest.mark.parametrize("wrapper", [None, "module"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_versioned_modules_convert_their_weights_also_in_files(
    wrapper: str | None, device: str, tmp_path: Path
) -> None:
    old: OrderedDict[str, Any] = OrderedDict({"part.negative": torch.ones(2)})
    old._metadata = {"": {"version": 1}, "part": {"version": 1}}  # type: ignore[attr-defined]
    if wrapper:
        old = OrderedDict((f"{wrapper}.{name}", value) for name, value in old.items())
        versions = {"": {"version": 1}, wrapper: {"version": 1}, f"{wrapper}.part": {"version": 1}}
        old._metadata = versions  # type: ignore[attr-defined]
    torch.save({"state_dict": old}, tmp_path / "old.pth")
    with torch.device(device):
        part = Versioned()
        network = nn.ModuleDict({"part": part})
    load_weights(network, read_checkpoint(tmp_path / "old.pth"), "a file")
    assert part.weight.tolist() == [-1, -1]  # on the meta device, the tensors of the file are assigned


def test_a_file_without_versions_is_of_the_current_ones(tmp_path: Path) -> None:
    save_file({"part.weight": torch.ones(2)}, tmp_path / "w.safetensors")
    part = Versioned()
    load_weights(nn.ModuleDict({"part": part}), read_checkpoint(tmp_path / "w.safetensors"), "a file")
    assert part.weight.tolist() == [1, 1]


def test_old_checkpoints_of_a_batch_normalisation_do_not_count_batches() -> None:
    network = nn.BatchNorm2d(3)
    state = {name: value + 1 for name, value in network.state_dict().items() if "num_batches" not in name}
    load_weights(network, state, "a file")
    assert cast("torch.Tensor", network.running_var).tolist() == [2, 2, 2]


def test_lazy_modules_take_their_shapes_from_the_weights() -> None:
    trained = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 2))
    network = nn.Sequential(nn.LazyConv2d(4, 1), nn.Flatten(), nn.LazyLinear(2))
    load_weights(network, trained.state_dict(), "a file")
    image = torch.rand(2, 3, 2, 2)
    assert torch.equal(network(image), trained(image))


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # in torch's own code
def test_weights_of_a_quantised_network_are_loaded(tmp_path: Path) -> None:
    def quantised(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
        return torch.ao.quantization.quantize_dynamic(network, {nn.Linear})  # type: ignore[no-untyped-call]

    trained, network = quantised(0), quantised(1)
    torch.save(trained.state_dict(), tmp_path / "q.pth")
    load_weights(network, read_checkpoint(tmp_path / "q.pth"), "a file")
    inputs = torch.rand(2, 4)
    assert torch.equal(network(inputs), trained(inputs))
