"""Factories of the user, of every kind of callable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.known import layout_of
from pipeline.networks.load import check_weights, load
from pipeline.settings import ModelSettings
from tests.helpers.user_modules import UserModules

NET = """
import functools, weakref
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8, *, n_outputs=4):
        super().__init__()
        self.rates = [x.item() for x in torch.linspace(0, 0.1, 3)]  # needs values, which the meta device does not have
        self.conv = nn.Conv2d(3, width, 3)
        self.fc = nn.Linear(width, n_outputs)
    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))

def plain(width=8):
    return Net(width)

partial = functools.partial(Net, width=16)

@functools.lru_cache
def cached(width=8):
    return Net(width)

class Builder:
    width = 8
    def __call__(self, width=8):
        return Net(width)
    @classmethod
    def of_class(cls):
        return Net(cls.width)

instance = Builder()
single = Net()
def singleton():
    return single

def uncopied():
    single.hook = uncopied.lock
    return single
import threading
uncopied.lock = threading.Lock()

def needs(path, *, strict=True):
    return Net()

def anything(**options):
    return Net()

def none():
    return "a network"
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    UserModules(monkeypatch).write(tmp_path, {"net.py": NET})
    yield
    UserModules.forget("net")


def model(name: str, *overrides: str) -> ModelSettings:
    return compose_settings(
        ["model=torchvision", "model.name=mine", f"model.factory=net:{name}", "model.weights=random",
         "model.transform.kind=none", "model.input_size=[3,8,8]", *overrides]
    ).model  # fmt: skip


@pytest.mark.usefixtures("factory")
@pytest.mark.parametrize(
    ("name", "width"),
    [("plain", 8), ("Net", 8), ("partial", 16), ("cached", 8), ("instance", 8), ("Builder.of_class", 8),
     ("singleton", 8), ("anything", 8)],
)  # fmt: skip
def test_any_callable_is_a_factory(name: str, width: int, recwarn: pytest.WarningsRecorder) -> None:
    found = layout_of(model(name)).find("conv")
    assert found.maps == (width, 6, 6)
    network = load(model(name), seed=0)
    assert not network.training
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.usefixtures("factory")
@pytest.mark.parametrize("name", ["cached", "singleton"])
def test_a_network_that_is_built_once_is_not_changed_by_weights_that_are_loaded(name: str, tmp_path: Path) -> None:
    initial = {key: value.clone() for key, value in load(model(name), seed=0).state_dict().items()}
    torch.save({key: value + 1 for key, value in initial.items()}, tmp_path / "w.pth")
    trained = load(model(name, f"model.checkpoint={tmp_path / 'w.pth'}"), seed=0).state_dict()
    half = load(model(name, f"model.checkpoint={tmp_path / 'w.pth'}", "model.randomized=1"), seed=0).state_dict()
    again = load(model(name), seed=0).state_dict()
    for key in initial:
        assert torch.equal(trained[key], initial[key] + 1)
        assert torch.equal(again[key], initial[key])
        assert torch.equal(half[key], initial[key] if key.startswith("fc") else trained[key])


@pytest.mark.usefixtures("factory")
def test_weights_that_a_factory_loads_itself_give_no_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    state = {key: value + 1 for key, value in load(model("plain"), seed=0).state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    code = (
        "import torch, net\n\ndef build(path):\n    network = net.Net()\n"
        "    network.load_state_dict(torch.load(path, weights_only=True))\n    return network\n"
    )
    UserModules(monkeypatch).write(tmp_path, {"loading.py": code})
    own = compose_settings(
        ["model=torchvision", "model.name=mine", "model.factory=loading:build", "model.weights=random",
         "model.transform.kind=none", "model.input_size=[3,8,8]", f"+model.arguments.path={tmp_path / 'w.pth'}"]
    ).model  # fmt: skip
    check_weights(own)
    assert len(layout_of(own).layers) == 2
    found = load(own, seed=0).state_dict()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.usefixtures("factory")
@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "plain",
            ["+model.arguments.widht=4"],
            "model.arguments must be arguments of the network; got widht (model.factory=net:plain; its arguments are "
            "width). Correct or remove them.",
        ),
        (
            "partial",
            ["+model.arguments.a=4", "+model.arguments.b=4"],
            "model.arguments must be arguments of the network; got a, b (model.factory=net:partial; its arguments are "
            "width, n_outputs). Correct or remove them.",
        ),
        (
            "singleton",
            ["+model.arguments.width=4"],
            "model.arguments must be arguments of the network; got width (model.factory=net:singleton; it has no "
            "arguments). Correct or remove them.",
        ),
        (
            "needs",
            [],
            "model.arguments must contain path; got none (model.factory=net:needs; its arguments are path, strict). "
            "Add +model.arguments.path=... to the command.",
        ),
        (
            "single",
            [],
            "model.factory must be a function, a class or another callable that returns a network; got net:single, an "
            "object of the type Net. Name a function that returns it.",
        ),
        (
            "uncopied",
            [],
            "model.factory must return a new network in every call; got the same object twice (net:uncopied), which "
            "cannot be copied (cannot pickle '_thread.lock' object). Build the network inside of the factory.",
        ),
        ("none", [], "model.factory must return a torch.nn.Module; got str (net:none)."),
    ],
)
def test_factories_and_arguments_that_are_not_possible_are_rejected(
    name: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(NetworkError) as caught:
        check_weights(model(name, *overrides))
    assert str(caught.value) == message
