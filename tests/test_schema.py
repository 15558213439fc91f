"""The JSON schemas of the settings accept every configuration of the project, and refuse what the settings refuse."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline import schema
from pipeline.resources import conf_dir
from pipeline.schema import KINDS, as_text, defaults, described, forms_of, schema_of
from pipeline.starter import FILES
from tests.helpers.cli import command_line
from tests.helpers.project import ROOT

CONFIGS = sorted([*conf_dir().rglob("*.yaml"), *FILES.rglob("conf/**/*.yaml"), *(ROOT / "examples").rglob("*.yaml")])


@cache
def validator(kind: str) -> Draft202012Validator:
    found = schema_of(kind)
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def kind_of(path: Path) -> str | None:
    """The kind of a file, by its folder and its package; None for a file of Hydra."""
    if path.parent.name in ("conf", "experiment") or "@package _global_" in path.read_text():
        return "settings"
    folder = path.parent.parent.name if path.parent.name == "common" else path.parent.name
    return folder if folder in KINDS else None


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if kind_of(path)], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_configuration_is_valid(path: Path) -> None:
    kind = kind_of(path)
    assert kind is not None
    assert [error.message for error in validator(kind).iter_errors(yaml.safe_load(path.read_text()) or {})] == []


def test_files_that_are_not_of_hydra_are_covered() -> None:
    left = {path.parent.name for path in CONFIGS if kind_of(path) is None}
    assert left == {"help", "job_logging", "launcher"}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("settings", "n_images: 4"),
        ("settings", "n_imgs: 20"),
        ("settings", "n_components: 0"),
        ("settings", "n_components: 1.5"),
        ("settings", "n_components: all"),
        ("settings", "layer: []"),
        ("settings", "score: {statistic: best}"),
        ("settings", "data: {source: folder, root: 3}"),
        ("settings", "data: {source: folder, pitch: 3.0}"),
        ("settings", "model: {factory: network.py}"),
        ("settings", "visualize: {dpi: 1000}"),
        ("settings", "ablate: {when: yes please}"),
        ("model", "transform: {kind: crop}"),
        ("score", "bass: 11"),
        ("target", "output: -1"),
        ("web", "max_pixels: 0"),
    ],
)  # fmt: skip
def test_what_the_settings_refuse_is_not_valid(kind: str, text: str) -> None:
    assert list(validator(kind).iter_errors(yaml.safe_load(text)))


@pytest.mark.parametrize(
    "text",
    [
        "n_components: auto",
        "n_components: 0.95",
        "class_name: 3",
        "layer: ???",
        "n_images: ${n_components}",
        "data: {root: photographs, images_from: all}",
        "model: {factory: 'network:network', checkpoint: null}",
        "score: {smoother: supersmoother, bass: 0.0}",
        "defaults: [override /model: resnet18, _self_]",
    ],
)
def test_a_part_of_the_settings_is_valid(text: str) -> None:
    assert [error.message for error in validator("settings").iter_errors(yaml.safe_load(text))] == []


def test_every_setting_has_a_description() -> None:
    forms = schema.settings_classes()
    lacking = [
        f"{form.__name__}.{name}"
        for form in forms
        for name, value in described(form).items()
        if "description" not in value
    ]
    assert len(forms) > 15
    assert lacking == []
    assert described(KINDS["settings"])["seed"]["description"].startswith("Seed of all random choices")
    inherited = described(next(form for form in forms_of("data") if form.__name__ == "FolderSettings"))
    assert inherited["select"]["description"].startswith("Which images are taken")


def test_defaults_are_those_of_the_configuration() -> None:
    found = schema_of("settings")
    assert found["properties"]["n_images"]["default"] == defaults()["n_images"] == 150
    assert found["$defs"]["ModelSettings"]["properties"]["batch_size"]["default"] == 64


def test_the_files_for_editors_are_up_to_date() -> None:
    """`python -m pipeline.dvc compose` writes them."""
    folder = ROOT / ".vscode" / "schemas"
    assert {path.stem: path.read_text() for path in folder.glob("*.json")} == {kind: as_text(kind) for kind in KINDS}
    used = json.loads((ROOT / ".vscode" / "settings.json").read_text())["yaml.schemas"]
    assert {Path(name).stem for name in used} == set(KINDS)
    assert all((ROOT / name).is_file() for name in used)


def test_the_command_prints_a_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with command_line(tmp_path, monkeypatch, capsys) as cli:
        code, out, err = cli("target", main=schema.main)
        assert (code, err) == (0, [])
        assert json.loads("\n".join(out)) == schema_of("target")
        assert cli("--help", main=schema.main)[1][0] == "Usage: pcace schema [GROUP]"
        code, out, err = cli("models", main=schema.main)
    assert (code, out) == (1, [])
    assert err == [
        "error: GROUP must be one of settings, data, engine, model, score, target, tracking, visualize, web; got "
        "models. Leave it out for all settings."
    ]
