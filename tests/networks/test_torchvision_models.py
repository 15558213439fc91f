"""torchvision's models with their published weights are torchvision's own networks.

The files are made here, from random weights, under the names and in the format of the published ones.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights

from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.declared import class_names
from pipeline.networks.identity import identity
from pipeline.networks.known import layout_of
from pipeline.networks.libraries import library
from pipeline.networks.load import check_weights, load
from pipeline.settings import ModelSettings

CASES = ["squeezenet1_1", "googlenet", "densenet121", "mnasnet0_5"]


def settings(name: str, *overrides: str) -> ModelSettings:
    return compose_settings(["model=torchvision", f"model.name={name}", *overrides]).model


def published_state(name: str, seed: int = 0) -> OrderedDict[str, Any]:
    """The state dict of a network that lets images through, in the format of torchvision's file."""
    torch.manual_seed(seed)
    aux = {"init_weights": False} if name == "googlenet" else {}
    network = get_model(name, weights=None, **aux)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    state: OrderedDict[str, Any] = network.state_dict()
    if name.startswith("densenet"):  # the file of 2017: other names, no versions, no counts of batches
        names = {key: re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key) for key in state}
        state = OrderedDict((names[key], value) for key, value in state.items() if "num_batches" not in key)
    return state


def file_of(name: str) -> str:
    return str(get_model_weights(name)["DEFAULT"].url.rpartition("/")[2])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def outputs(network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_network_is_torchvisions_own(name: str, cache: Path) -> None:
    """The arguments that the weights imply, the names in old files and the versions of modules are torchvision's."""
    torch.save(published_state(name), cache / file_of(name))
    own = get_model(name, weights="DEFAULT").eval()
    found = load(settings(name), seed=0)
    assert torch.equal(outputs(found), outputs(own))
    assert getattr(found, "transform_input", None) == getattr(own, "transform_input", None)
    assert list(found.state_dict()) == list(own.state_dict())


def test_the_input_of_googlenet_is_transformed_as_its_weights_imply(cache: Path, tmp_path: Path) -> None:
    torch.save(published_state("googlenet"), cache / file_of("googlenet"))
    own = get_model("googlenet", weights="DEFAULT").eval()
    found = outputs(load(settings("googlenet"), seed=0))
    assert torch.equal(found, outputs(own))
    own.transform_input = False
    assert not torch.allclose(found, outputs(own))
    # The published file may also be given as a checkpoint, and `model.arguments` may change what the weights imply.
    given = tmp_path / file_of("googlenet")
    torch.save(published_state("googlenet"), given)
    assert torch.equal(outputs(load(settings("googlenet", f"model.checkpoint={given}"), seed=0)), found)
    changed = settings("googlenet", "+model.arguments.transform_input=false")
    assert torch.equal(outputs(load(changed, seed=0)), outputs(own))


def test_a_file_of_your_own_is_loaded_with_the_versions_of_its_modules(tmp_path: Path) -> None:
    state = published_state("mnasnet0_5", seed=3)
    torch.save({"state_dict": state}, tmp_path / "mine.pth")
    torch.save(dict(state), tmp_path / "without_versions.pth")
    networks = [
        load(settings("mnasnet0_5", f"model.checkpoint={tmp_path / name}"), seed=0)
        for name in ("mine.pth", "without_versions.pth")
    ]
    expected = get_model("mnasnet0_5", weights=None)
    expected.load_state_dict(state)
    assert all(torch.equal(outputs(network), outputs(expected.eval())) for network in networks)


def test_the_layers_and_the_faults_of_published_weights_are_known_without_a_download(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    model = settings("vit_b_16", "model.weights=IMAGENET1K_SWAG_E2E_V1", "model.input_size=[3,384,384]")
    check_weights(model)
    layer = layout_of(model).find("encoder.layers.encoder_layer_11")
    assert layer.maps == (768, 24, 24)  # the patches of the image size that the weights imply, not 224
    assert identity(model, 0)["weights"] == {"url": "vit_b_16_swag-9ac1b537.pth"}
    with pytest.raises(NetworkError) as caught:
        load(settings("squeezenet1_1"), seed=0)
    assert str(caught.value) == (
        "model.weights must be downloadable; got SqueezeNet1_1_Weights.IMAGENET1K_V1, which is not in the cache and "
        "could not be downloaded (<urlopen error no network>). Save "
        "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth as "
        f"{cache / 'squeezenet1_1-b8a52dc0.pth'}, or use model.weights=random."
    )


def test_a_damaged_file_in_the_cache_is_named(cache: Path) -> None:
    path = cache / file_of("squeezenet1_1")
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(NetworkError) as caught:
        load(settings("squeezenet1_1"), seed=0)
    message = str(caught.value)
    assert message.startswith(
        "model.weights must be the published file of SqueezeNet1_1_Weights.IMAGENET1K_V1; got "
        f"{path}, which cannot be loaded ("
    )
    assert message.endswith("). Delete it, and run again to download it.")
    assert "\n" not in message


def test_published_weights_are_read_from_the_cache_of_torch_with_their_class_names(cache: Path) -> None:
    state = published_state("squeezenet1_1", seed=3)
    torch.save(state, cache / file_of("squeezenet1_1"))
    model = settings("squeezenet1_1")
    loaded = load(model, seed=0).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    names = class_names(model)
    assert names is not None
    assert names[281] == "tabby"


def test_a_file_in_the_cache_that_is_not_the_published_one_is_identified_by_its_content(cache: Path) -> None:
    model = settings("squeezenet1_1")
    before = identity(model, 0)
    assert before["weights"] == {"url": "squeezenet1_1-b8a52dc0.pth"}
    keys = []
    for seed in (0, 1):
        torch.save(published_state("squeezenet1_1", seed), cache / file_of("squeezenet1_1"))
        keys.append(identity(model, 0))
    assert len({str(key) for key in (before, *keys)}) == 3


def test_the_last_modules_of_published_weights_are_randomized(cache: Path) -> None:
    state = published_state("squeezenet1_1", seed=3)
    torch.save(state, cache / file_of("squeezenet1_1"))
    found = load(settings("squeezenet1_1", "model.randomized=1"), seed=5).state_dict()
    random = load(settings("squeezenet1_1", "model.weights=random"), seed=5).state_dict()
    of_last = ("classifier.1.weight", "classifier.1.bias")
    for name, value in found.items():
        assert torch.equal(value, random[name] if name in of_last else state[name])
    assert not torch.equal(found["classifier.1.weight"], state["classifier.1.weight"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["+model.arguments.num_clases=10"],
            "model.arguments must be arguments of the network; got num_clases (torchvision's squeezenet1_1; its "
            "arguments are num_classes, version, dropout). Correct or remove them.",
        ),
        (
            ["+model.arguments.num_classes=10"],
            "model.arguments must suit the network; got num_classes=10 (torchvision's squeezenet1_1, ValueError: The "
            "parameter 'num_classes' expected value 1000 but got 10 instead). Correct or remove them.",
        ),
        (
            ["+model.arguments.pretrained=true"],
            "model.arguments must be arguments of the network; got pretrained (torchvision's squeezenet1_1; its "
            "arguments are version, num_classes, dropout). Correct or remove them.",
        ),
    ],
)
def test_arguments_that_the_model_does_not_have_or_the_weights_do_not_allow_are_rejected(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(NetworkError) as caught:
        check_weights(settings("squeezenet1_1", *overrides))
    assert str(caught.value) == message


@pytest.mark.parametrize(("name", "has_heads"), [("googlenet", False), ("inception_v3", True)])
def test_networks_with_auxiliary_heads_are_built_as_their_weights_imply(name: str, has_heads: bool) -> None:
    with torch.device("meta"):
        network: Any = library(settings(name)).factory(settings(name))()
    assert network.transform_input
    assert network.aux_logits is has_heads
