"""dvc.yaml and params.yaml: DVC would not run a stage again if its settings or its code were not listed there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import grimp
import pandas as pd
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from torch import nn

from pipeline import dvc
from pipeline.config import compose_settings
from pipeline.dvc_file import dvc_yaml
from pipeline.errors import SettingsError
from pipeline.resolve import resolve
from pipeline.runner import STAGES
from pipeline.settings import Settings
from pipeline.stages import ORDER
from tests.helpers.project import ROOT
from tests.helpers.servers import photograph
from tests.helpers.settings import Compose
from tests.helpers.user_modules import UserModules

FILE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NAMES = [stage.name for stage in STAGES]
# Settings that do not change a result: paths, tracking, the number of processes and the device.
INDIFFERENT = ("paths.", "tracking.", "score.n_jobs", "model.device", "network.")
ALTERNATIVES: dict[str, Any] = {
    "layer": "conv2", "class_name": "3", "target_class": None, "model.checkpoint": None, "model.factory": None,
    "model.weights": "shipped", "model.name": "digits_too", "data.select": "first", "score.statistic": "first",
    "score.solver": None, "score.kind": None, "data.source": None, "model.class_names": None, "model.arguments": None,
    "model.input_size": None, "model.transform.kind": "resize", "model.transform.mean": (0.5,),
    "model.transform.std": (0.5,), "score.bass": 4.0, "rank.by": "first", "score.spans": (0.1, 0.3, 0.6),
    "model.library": None, "model.channels": "last", "data.images_from": "balanced", "target.kind": None,
    "target.score": "probability", "visualize.channels": (1,), "visualize.images": "driving",
    "score.smoother": "spline", "score.smoothness": None, "ablate.when": "never", "ablate.mode": "mean",
    "visualize.image_ids": ("8/0008",), "visualize.scale": "shared", "visualize.maximize": "never",
    "activate.dtype": "float16", "engine.kind": None,
}  # fmt: skip


def leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(settings):
        value, name = getattr(settings, field.name), prefix + field.name
        if is_dataclass(value):
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def changed(settings: Any, path: str, value: Any) -> Any:
    name, _, rest = path.partition(".")
    return replace(settings, **{name: changed(getattr(settings, name), rest, value) if rest else value})


def identities(settings: Settings) -> dict[str, Any]:
    resolved = resolve(settings)
    return {stage.name: stage.select(resolved).identity() for stage in STAGES}


def is_covered(path: str, params: list[str]) -> bool:
    return any(path == param or path.startswith(f"{param}.") for param in params)


def test_dvc_yaml_is_the_one_that_is_generated(compose: Compose) -> None:
    """If this fails, stages or imports have changed: run `python -m pipeline.dvc compose` and commit dvc.yaml."""
    assert (ROOT / "dvc.yaml").read_text() == dvc_yaml(compose_settings([]))


def test_every_stage_is_listed_with_its_command_and_the_artifacts_that_it_builds_on() -> None:
    assert list(FILE) == ["compose", "identify", *NAMES] == ["compose", "identify", *ORDER]
    makers = {stage.artifact: stage.name for stage in STAGES}
    for stage in STAGES:
        listed = FILE[stage.name]
        assert listed["cmd"] == f"python -m pipeline.dvc {stage.name}"
        keys = f"outputs/dvc/keys/{stage.name}.json"
        assert keys in listed["deps"]
        assert keys in FILE["identify"]["outs"]
        upstream = {Path(path).name for path in listed["deps"] if path.startswith("outputs/dvc/") and path != keys}
        assert upstream == {makers[artifact] for artifact in stage.upstream.values()}


@pytest.mark.parametrize("name", ["compose", *NAMES])
def test_the_files_that_a_stage_depends_on_exist(name: str) -> None:
    deps = [path for path in FILE[name]["deps"] if not path.startswith("outputs/")]
    assert [path for path in deps if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_depends_on_all_modules_that_it_imports(name: str) -> None:
    graph = grimp.build_graph("pipeline", exclude_type_checking_imports=True, cache_dir=None)
    imported = graph.find_upstream_modules(f"pipeline.stages.{name}") | {f"pipeline.stages.{name}", "pipeline.dvc"}
    paths = []
    for module in imported:
        path = ROOT / module.replace(".", "/")
        paths.append((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).relative_to(ROOT))
    deps = [Path(path) for path in FILE[name]["deps"]]
    assert [str(path) for path in paths if not any(path.is_relative_to(dep) for dep in deps)] == []


def test_reduce_and_rank_do_not_depend_on_the_sources_or_the_networks() -> None:
    for name in ("reduce", "rank"):
        assert not {"pipeline/sources", "pipeline/networks"} & set(FILE[name]["deps"])


def test_a_stage_lists_every_setting_that_its_result_depends_on(compose: Compose) -> None:
    """Change every setting, one at a time, and compare the stages whose keys change with dvc.yaml."""
    settings = compose("model.weights=random", "data.select=random")  # so that the seed has an effect, too
    before, missing = identities(settings), []
    changes: dict[str, set[str]] = {name: set() for name in NAMES}
    for path, value in leaves(settings):
        if path.startswith(INDIFFERENT):
            continue
        assert path in ALTERNATIVES or isinstance(value, (int, float)), f"give another value for {path} in ALTERNATIVES"
        other = ALTERNATIVES[path] if path in ALTERNATIVES else value * 2 if isinstance(value, float) else value + 1
        if other is None:
            continue  # no other value is possible for the default network and data
        after = identities(changed(settings, path, other))
        for name in NAMES:
            if after[name] != before[name]:
                changes[name].add(path)
                if not is_covered(path, FILE[name]["params"]):
                    missing.append(f"{name}: {path}")
    assert missing == []
    assert {"n_components"} <= changes["reduce"]
    assert {"score.statistic"} <= changes["rank"]


def test_every_setting_that_dvc_yaml_lists_exists(compose: Compose) -> None:
    known = [path for path, _ in leaves(compose())]
    for name in NAMES:
        for param in FILE[name]["params"]:
            assert any(path == param or path.startswith(f"{param}.") for path in known), (name, param)


def test_reduce_and_download_do_not_list_settings_that_they_do_not_read() -> None:
    assert FILE["reduce"]["params"] == ["n_components"]
    assert not is_covered("layer", FILE["download"]["params"])


def test_params_yaml_is_composed_from_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, conf/ has changed: run `python -m pipeline.dvc compose` and commit params.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PCACE_OUTPUTS", raising=False)
    dvc.compose_params()
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_edits_are_kept_and_a_file_from_older_settings_is_composed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = tmp_path / "params.yaml"
    dvc.compose_params()
    digest = dvc.conf_digest()
    params.write_text(params.read_text().replace("layer: conv3", "layer: conv1"))
    dvc.compose_params()
    assert dvc.load_params().layer == "conv1"
    # The file as `dvc exp run -S layer=conv2` writes it: with paths and without the digest.
    params.write_text(params.read_text().replace("layer: conv1", "layer: conv2").replace(digest, "").replace(
        "conf_digest: ", "paths: {outputs: outputs}"))  # fmt: skip
    dvc.compose_params()
    assert dvc.load_params().layer == "conv2"
    assert digest in params.read_text()
    assert "paths" not in params.read_text()
    params.write_text(params.read_text().replace(digest, "0" * 64))
    dvc.compose_params()
    assert dvc.load_params().layer == "conv3"


WIDE = "from torch import nn\n\ndef head():\n    return nn.Linear(4, 2)\n"
OUTSIDE = (
    "import torch\nfrom torch import nn\nfrom parts import head\n\ndef build():\n    return nn.Sequential(\n"
    "        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head())\n"
)


def test_the_keys_see_images_code_and_weights_outside_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`identify` runs every time, and DVC runs the stages again whose files it has changed."""
    outside, checkout = tmp_path / "outside", tmp_path / "checkout"
    modules = UserModules(monkeypatch)
    files = {"net.py": OUTSIDE, "parts.py": WIDE}
    modules.write(outside, files)
    photographs = outside / "photos"
    photographs.mkdir()
    checkout.mkdir()
    monkeypatch.chdir(checkout)

    def show(seed: int) -> None:
        for index in range(6):
            (photographs / f"{index}.jpg").write_bytes(photograph(seed + index, (12, 12)))

    def train(seed: int) -> None:
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 4, 1), *(nn.Identity() for _ in range(3)), nn.Linear(4, 2))
        torch.save(network.state_dict(), outside / "w.pth")

    def keys() -> dict[str, str]:
        dvc.write_keys()
        return {path.stem: path.read_text() for path in dvc.KEYS.iterdir()}

    def changes(before: dict[str, str]) -> set[str]:
        return {name for name, text in keys().items() if text != before[name]}

    assert FILE["identify"]["always_changed"] is True
    show(0)
    train(0)
    dvc.compose_params()
    params = OmegaConf.merge(OmegaConf.load("params.yaml"), OmegaConf.create({
        "model": {"factory": "net:build", "checkpoint": str(outside / "w.pth"), "class_names": None,
                  "input_size": [3, 12, 12], "transform": {"mean": [0.0] * 3, "std": [1.0] * 3}},
        "data": {"source": "folder", "root": str(photographs), "select": "first", "images_from": "class"},
        "layer": "0", "class_name": None, "target_class": 1, "n_images": 6, "n_components": 1,
    }))  # fmt: skip
    OmegaConf.save(params, "params.yaml")
    first = keys()
    assert set(first) == set(NAMES)
    assert keys() == first  # without a change, DVC runs nothing
    assert str(tmp_path) not in "".join(first.values())
    later = set(NAMES) - {"download"}
    show(6)
    assert changes(first) == set(NAMES)  # replaced photographs
    show(0)
    train(1)
    assert changes(first) == later  # a checkpoint that was trained anew
    train(0)
    modules.write(outside, {**files, "parts.py": WIDE.replace("(4, 2)", "(4, 2, bias=True)")})
    assert changes(first) == later  # a module that the factory imports
    modules.write(outside, {**files, "net.py": OUTSIDE.replace("ReLU", "GELU")})
    assert changes(first) == later  # the factory
    modules.write(outside, files)
    assert changes(first) == set()
    OmegaConf.save(OmegaConf.merge(params, OmegaConf.create({"n_components": 2})), "params.yaml")
    assert changes(first) == {"reduce", "score", "rank", "evaluate", "visualize"}  # another question, as with -S
    for name in ("net", "parts"):
        UserModules.forget(name)


def test_copies_of_the_checkout_use_its_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PCACE_OUTPUTS", raising=False)
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    copy.mkdir(parents=True)
    for folder in (tmp_path, copy):
        monkeypatch.chdir(folder)
        dvc.compose_params()
        assert dvc.load_params().paths.outputs == str(tmp_path / "outputs")


def test_each_fault_in_params_yaml_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"^params\.yaml must exist; got none in "):
        dvc.load_params()
    dvc.compose_params()
    text = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("n_images: 150", "n_images: 2"))
    with pytest.raises(SettingsError, match=r"^n_images must be at least 5; got 2\.$"):
        dvc.load_params()


def test_params_yaml_has_all_settings_except_the_paths(compose: Compose) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {*params, "paths"} - {"conf_digest"} == set(asdict(compose()))


def test_the_stages_run_for_several_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dvc.compose_params()
    params = OmegaConf.merge(OmegaConf.load("params.yaml"), OmegaConf.create({
        "layer": ["conv1", "conv2"], "n_images": 30, "score": {"permutations": 20, "bootstrap": 20},
    }))  # fmt: skip
    OmegaConf.save(params, "params.yaml")
    dvc.FOLDER.mkdir(parents=True)
    dvc.write_keys()
    assert set(json.loads((dvc.KEYS / "activate.json").read_text())) == {"conv1", "conv2"}
    for name in ("download", "activate", "rank"):
        dvc.run_stage(name)
    folder = dvc.FOLDER
    assert {path.name for path in (folder / "activate" / "layers").iterdir()} == {"conv1", "conv2"}
    assert (folder / "download" / "manifest.csv").exists()
    assert (folder / "rank" / "layers" / "conv2" / "ranking.csv").exists()
    plotted = pd.read_csv(folder / "rank" / "ranking.csv")  # the file that dvc.yaml plots
    assert plotted["rank"].tolist() == list(range(1, 49))
    assert json.loads((folder / "metrics.json").read_text())["n_channels"] == 48
