"""The pages of the documentation: every code block is checked in some way, and the reference covers the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from docs import pages, reference_pages, tables
from docs.reference_pages import type_of
from pipeline.commands import COMMANDS
from pipeline.config import compose_settings, register_resolvers
from pipeline.schema import described, schema_of, settings_classes
from pipeline.stages import ORDER
from pipeline.starter import write_starter
from tests.helpers.pages import BLOCK, BLOCKS, LANGUAGES, PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_block_has_a_language_and_is_found(page: Path) -> None:
    text = page.read_text()
    assert text.count("```") == 2 * len(BLOCK.findall(text))
    assert {block.language for block in BLOCKS if (page.parent / page.name).match(block.page)} <= LANGUAGES


def test_no_mark_stands_without_its_block() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    assert len(re.findall(r"<!-- (?:not run|composed|fails)", text)) == sum(bool(block.mark) for block in BLOCKS)
    assert sum(not block.mark for block in BLOCKS if block.language in ("sh", "python")) >= 10


COMPOSED = [command for block in BLOCKS if block.mark == "composed" for command in block.commands()]


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("starter")
    write_starter(folder)
    return folder


@pytest.mark.parametrize("command", COMPOSED)
def test_the_settings_of_a_command_that_needs_other_data_compose(
    command: str, starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(starter)
    register_resolvers()
    words = shlex.split(command, comments=True)
    assert words[:2] in (["pcace", "run"], ["pcace", "plan"])
    given = [word for word in words[2:] if "=" in word]
    overrides = [word if "[" in word else word.split(",")[0] for word in given]
    assert overrides
    assert compose_settings(overrides).n_images >= 5


def test_yaml_is_valid() -> None:
    found = [yaml.safe_load(block.text) for block in BLOCKS if block.language == "yaml"]
    settings = [each for each in found if not {"stages", "apiVersion"} & each.keys()]  # not of DVC or Kubernetes
    assert len(settings) >= 1
    for each in settings:
        assert [error.message for error in Draft202012Validator(schema_of("settings")).iter_errors(each)] == []


def test_the_reference_has_every_setting_with_its_default() -> None:
    text = reference_pages.settings()
    names = ("layer", "model.transform.std", "data.web.timeout", "score.bass", "score.n_steps", "target.output")
    for name in names:
        assert f"\n`{name}`\n: " in text
    assert "`n_images`\n: Number of images.\\\n  *Whole number at least 5; default `150`.*" in text
    assert "`data.root`\n: Path of the folder; images are ordered by file name.\\\n  *Text; must be given.*" in text
    # Every setting of every class is named.
    named = {line.strip("`").rpartition(".")[2] for line in text.splitlines() if re.fullmatch(r"`[\w.]+`", line)}
    groups = {*reference_pages.GROUPS, "web", "transform", "source", "kind"}
    wanted = {name for each in settings_classes() for name in described(each)}
    assert wanted - groups - named == set()


def test_types_are_words() -> None:
    either = type_of({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]})
    assert either == "whole number at least 1, or `auto`"
    assert type_of({"type": "number", "exclusiveMinimum": 0, "maximum": 1}) == "number above 0 and at most 1"
    assert type_of({"type": "array", "items": {"type": "string"}}) == "list of text"


def test_the_reference_has_every_command_with_its_help() -> None:
    text = reference_pages.commands()
    assert re.findall(r"^## `pcace (\w+)`$", text, re.M) == list(COMMANDS)
    for part in ("Usage: pcace init", "--sweep ID", "Usage: pcace run [setting=value", "gc", "`make docs`"):
        assert part in text


def test_the_reference_has_every_stage_and_figure() -> None:
    stages = reference_pages.stages()
    assert re.findall(r"^## (\w+)$", stages, re.M) == [*ORDER, "associate"] == list(tables.FILES)
    assert "`association_effect.png`\n: " in reference_pages.figures()
    assert "0102-" in reference_pages.decisions()


def test_links_to_files_outside_of_the_pages_are_resolved() -> None:
    text = "[a](../CHANGELOG.md#b) [c](../benchmarks/results/null.md) [d](rankers.md) ![e](../benchmarks/results/x.png)"
    assert pages.with_links(text, "docs", pages.DOCS) == (
        "[a](changelog.md#b) c (`benchmarks/results/null.md`) [d](rankers.md) ![e](../benchmarks/results/x.png)"
    )
    root = "see [the rules](docs/rankers.md) and [0041](docs/decisions/0041-locks-and-checksums-of-the-store.md)"
    assert pages.with_links(root, "", pages.DOCS) == (
        "see [the rules](rankers.md) and [0041](decisions/0041-locks-and-checksums-of-the-store.md)"
    )
