"""The key of a network contains everything that it computes with, and nothing that depends on the machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.digits import digits_cnn
from pipeline.networks.fingerprint import fingerprint
from pipeline.networks.identity import identity
from pipeline.networks.portable import portable
from tests.helpers.project import ROOT
from tests.helpers.user_modules import UserModules

BLOCKS = """
from torch import nn
from nets.scales import SCALE

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
    def forward(self, x):
        return self.conv(x).relu() * SCALE
"""
FACTORY = """
from torch import nn
from .blocks import Block

def build(slope=0.1):
    def late():
        from nets import unused_until_called
    return nn.Sequential(Block(), nn.LeakyReLU(slope), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""
NETS = {
    "nets/__init__.py": "",
    "nets/factory.py": FACTORY,
    "nets/blocks.py": BLOCKS,
    "nets/scales.py": "SCALE = 2\n",
    "nets/unused_until_called.py": "import os\n",
    "nets/never_imported.py": "import torch\n",
}
OWN = ["model=torchvision", "model.name=mine", "model.weights=random", "model.transform.kind=none",
       "model.input_size=[3,8,8]"]  # fmt: skip


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[UserModules]:
    yield UserModules(monkeypatch)
    for name in ("nets", "net"):
        UserModules.forget(name)


def found(*overrides: str, factory: str = "nets.factory:build", seed: int = 0) -> dict[str, Any]:
    return identity(compose_settings([*OWN, f"model.factory={factory}", *overrides]).model, seed)


def test_the_code_of_a_network_is_that_of_the_users_modules_that_it_imports(
    modules: UserModules, tmp_path: Path
) -> None:
    modules.write(tmp_path, NETS)
    architecture = found()["architecture"]
    assert set(architecture["code"]) == {
        "nets", "nets.factory", "nets.blocks", "nets.scales", "nets.unused_until_called"
    }  # fmt: skip
    assert architecture["packages"] == {}  # torch's own modules do not identify a network


@pytest.mark.parametrize("file", ["nets/factory.py", "nets/blocks.py", "nets/scales.py", "nets/unused_until_called.py"])
def test_an_edited_module_changes_the_key_and_an_edit_that_is_undone_restores_it(
    file: str, modules: UserModules, tmp_path: Path
) -> None:
    modules.write(tmp_path, NETS)
    before = found()
    modules.write(tmp_path, {**NETS, file: NETS[file] + "# a comment\n"})
    assert found() != before
    modules.write(tmp_path, NETS)
    assert found() == before
    modules.write(tmp_path, {**NETS, "nets/never_imported.py": "x = 1\n"})
    assert found() == before


def test_a_module_that_is_edited_after_its_import_keeps_the_digest_of_the_code_that_runs(
    modules: UserModules, tmp_path: Path
) -> None:
    modules.write(tmp_path, NETS)
    before = found()
    (tmp_path / "nets" / "scales.py").write_text("SCALE = 3\n")
    assert found() == before  # this process computes with 2 until it ends
    modules.write(tmp_path, {**NETS, "nets/scales.py": "SCALE = 3\n"})
    assert found() != before


def test_weights_that_a_factory_loads_itself_change_the_key(modules: UserModules, tmp_path: Path) -> None:
    code = (
        "import torch\nfrom torch import nn\nfrom pathlib import Path\n\ndef build(path=None):\n"
        "    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))\n"
        "    network.load_state_dict(torch.load(path or Path(__file__).parent / 'w.pth', weights_only=True))\n"
        "    return network\n"
    )
    modules.write(tmp_path / "a", {"net.py": code})

    def train(seed: int, path: Path) -> None:
        torch.manual_seed(seed)
        torch.save(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.Identity(), nn.Linear(4, 2)).state_dict(), path)

    keys = []
    for seed in (0, 1, 0):
        train(seed, tmp_path / "a" / "w.pth")
        train(seed, tmp_path / "given.pth")
        keys.append((found(factory="net:build"), found(f"+model.arguments.path={tmp_path / 'given.pth'}",
                                                       factory="net:build")))  # fmt: skip
    assert keys[0] == keys[2]
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] != keys[1][1]
    # The same file elsewhere, and under another name.
    shutil.copy(tmp_path / "given.pth", tmp_path / "a" / "moved.pth")
    moved = found(f"+model.arguments.path={tmp_path / 'a' / 'moved.pth'}", factory="net:build")
    assert moved == keys[0][1]
    assert str(tmp_path) not in json.dumps([keys, moved])


def test_a_value_that_only_a_file_contains_changes_the_key(modules: UserModules, tmp_path: Path) -> None:
    """Neither the code nor the weights change: a number, a structure, a buffer that checkpoints leave out, a tensor."""
    code = (
        "import json, torch\nfrom pathlib import Path\nfrom torch import nn\n\nclass Net(nn.Module):\n"
        "    def __init__(self, config):\n        super().__init__()\n"
        "        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)\n"
        "        self.act = nn.LeakyReLU(config['slope']) if config['leaky'] else nn.GELU()\n"
        "        self.register_buffer('mean', torch.tensor(config['mean']), persistent=False)\n"
        "        self.factor = torch.tensor(config['factor'])\n"
        "        self.scale = lambda x: x * config['scale']\n"
        "    def forward(self, x):\n"
        "        return self.scale(self.fc(self.act(self.conv(x - self.mean)).mean((2, 3)))) * self.factor\n\n"
        "def build():\n    return Net(json.loads((Path(__file__).parent / 'c.json').read_text()))\n"
    )
    plain = {"slope": 0.1, "leaky": True, "mean": 0.0, "factor": 1.0, "scale": 1.0}
    changed: list[dict[str, Any]] = [{"slope": 0.2}, {"leaky": False}, {"mean": 0.5}, {"factor": 2.0}, {"scale": 3.0}]
    modules.write(tmp_path, {"net.py": code, "c.json": json.dumps(plain)})
    keys = [found(factory="net:build")]
    for change in changed:
        (tmp_path / "c.json").write_text(json.dumps({**plain, **change}))
        keys.append(found(factory="net:build"))
    assert all(one != other for index, one in enumerate(keys) for other in keys[:index])
    (tmp_path / "c.json").write_text(json.dumps(plain))
    assert found(factory="net:build") == keys[0]


def test_a_checkpoint_identifies_a_network_by_its_values_whatever_the_format(
    modules: UserModules, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    state = digits_cnn().state_dict()
    torch.save(state, tmp_path / "w.pth")
    torch.save({"module." + name: value for name, value in state.items()}, tmp_path / "parallel.pth")
    model = [compose_settings([f"model.checkpoint={tmp_path / name}"]).model for name in ("w.pth", "parallel.pth")]
    assert identity(model[0], 0) == identity(model[1], 0) == identity(model[0], 1)
    torch.save({**state, "conv1.bias": state["conv1.bias"] + 1e-6}, tmp_path / "w.pth")
    assert identity(model[0], 0) != identity(model[1], 0)


@pytest.mark.slow
def test_the_key_is_the_same_in_another_folder_and_another_process(modules: UserModules, tmp_path: Path) -> None:
    """In the other process, nothing else has been imported, the working folder differs, and hashes are seeded anew."""
    modules.write(tmp_path / "here", NETS)
    shutil.copytree(tmp_path / "here", tmp_path / "there", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import json\nfrom pipeline.config import compose_settings\nfrom pipeline.networks.identity import identity\n"
        f"print(json.dumps(identity(compose_settings({[*OWN, 'model.factory=nets.factory:build']!r}).model, 0)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "there", check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert json.loads(done.stdout) == found()


def test_a_network_of_an_installed_package_is_identified_by_the_version_of_the_package() -> None:
    from importlib.metadata import version

    settings = compose_settings(
        [*OWN, "model.factory=torchvision.models:squeezenet1_1", "+model.arguments.num_classes=3"]
    )
    assert identity(settings.model, 0)["architecture"] == {
        "factory": "torchvision.models:squeezenet1_1",
        "arguments": {"num_classes": 3},
        "code": {},
        "packages": {"torchvision": version("torchvision")},
    }


def test_a_factory_that_draws_other_weights_in_every_call_is_refused(modules: UserModules, tmp_path: Path) -> None:
    code = (
        "import numpy as np, random, time, torch\nfrom torch import nn\n\ndef seeded():\n"
        "    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "    network[0].weight.data += torch.tensor(np.random.rand() + random.random())\n    return network\n\n"
        "def unseeded():\n    network = seeded()\n"
        "    network[0].bias.data += torch.tensor(np.random.default_rng().random())\n    return network\n\n"
        "def dated():\n    network = seeded()\n    network[1].created = time.perf_counter()\n    return network\n"
    )
    modules.write(tmp_path, {"net.py": code})
    assert found(factory="net:seeded") == found(factory="net:seeded") != found(factory="net:seeded", seed=1)
    for name, different in (("unseeded", "0.bias"), ("dated", "1.created")):
        with pytest.raises(NetworkError) as caught:
            found(factory=f"net:{name}")
        assert str(caught.value) == (
            f"model.factory must build the same network in every call; got different values of {different} "
            f"(net:{name}, called twice with one seed). Seed its random numbers, and keep times out of its attributes."
        )


def test_arguments_that_name_files_are_represented_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.json").write_text("1")
    (tmp_path / "word").write_text("1")
    monkeypatch.chdir(tmp_path)
    one = {"file": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}  # SHA-256 of "1"
    assert portable({"a": [str(tmp_path / "one.json"), "one.json"], "b": "word", "c": str(tmp_path), "d": 3}) == {
        "a": [one, one],
        "b": {**one, "text": "word"},  # perhaps not meant as a file
        "c": {"folder": True},
        "d": 3,
    }
    assert portable(["resnet", "timm/resnet", "x" * 5000, "\0", None, True]) == [
        "resnet", "timm/resnet", "x" * 5000, "\0", None, True
    ]  # fmt: skip


class Shared(nn.Module):
    """Attributes of many kinds: a module in a list, a cycle, a function, arrays, and objects of unknown classes."""

    def __init__(self, value: Any = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.hidden = [nn.Linear(2, 2)]
        self.cycle: dict[str, Any] = {}
        self.cycle["self"] = self.cycle
        self.first, self.value = self.conv, value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (True, 1),
        (torch.float32, torch.float16),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 2}),
        (torch.relu, torch.sigmoid),
        (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
        (torch.zeros(2, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.bfloat16)),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
         torch.quantize_per_tensor(torch.ones(2), 0.2, 0, torch.qint8)),
        (torch.eye(2).to_sparse(), (2 * torch.eye(2)).to_sparse()),
        (nn.Linear, nn.Bilinear),
    ],
)  # fmt: skip
def test_networks_with_different_values_have_different_fingerprints(one: Any, other: Any) -> None:
    digests = []
    for value in (one, other, one):
        torch.manual_seed(0)
        digests.append(fingerprint(Shared(value)).digest)
    assert digests[0] == digests[2] != digests[1]


def test_weights_of_modules_that_are_not_registered_are_part_of_the_fingerprint() -> None:
    torch.manual_seed(0)
    network = Shared()
    before = fingerprint(network).digest
    with torch.no_grad():
        network.hidden[0].bias.add_(1)
    assert fingerprint(network).digest != before


def wrapped(kind: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    conv = nn.Conv2d(3, 4, 3)
    if kind == "weight_norm":
        nn.utils.parametrizations.weight_norm(conv)
    elif kind == "spectral_norm":
        nn.utils.spectral_norm(conv)
    network = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    match kind:
        case "compile":
            return cast("nn.Module", torch.compile(network))
        case "DataParallel":
            return nn.DataParallel(network)
        case "fx":
            return torch.fx.symbolic_trace(network)
        case "bfloat16":
            return network.bfloat16()
        case _:
            return network


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # in torch.compile
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "compile", "DataParallel", "fx", "bfloat16"])
def test_networks_of_every_kind_have_one_fingerprint_for_the_same_weights(kind: str) -> None:
    one, again, other = (fingerprint(wrapped(kind, seed)) for seed in (0, 0, 1))
    assert one == again
    assert one.digest != other.digest
