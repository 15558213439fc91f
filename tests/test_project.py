"""The pages, the build files and the contracts of imports agree with the code."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pipeline.config import compose_settings
from tests.helpers.project import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), ROOT / "data" / "README.md", ROOT / "outputs" / "README.md"]
GITHUB = ROOT / ".github"
PAGES += [*ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md"), *ROOT.glob("benchmarks/results/*.md")]
FOLDERS = ("benchmarks", "conf", "data", "docs", "examples", "pcace", "pipeline", "tests")
ONLY_IN_WHEEL = ("pipeline/conf", "pipeline/data")
WRITTEN = ("data/MNIST", "data/mnist_cnn", "data/street_level")  # by the commands of the examples; git ignores them
IN_THE_STARTER = ("conf/experiment/mine", "conf/settings.schema")  # what `pcace init` writes
TEXTS = [*PAGES, ROOT / "Makefile", ROOT / "dvc.yaml"]
SOURCES = [folder for folder in FOLDERS if folder != "data"]
TEXTS += [path for folder in SOURCES for kind in ("py", "yaml") for path in ROOT.glob(f"{folder}/**/*.{kind}")]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS: list[dict[str, Any]] = PYPROJECT["tool"]["importlinter"]["contracts"]
LAYERS = [contract for contract in CONTRACTS if contract["type"] == "layers"]


def commands() -> list[str]:
    """The commands in the README and in docs/sources.md that run the pipeline or list layers, with overrides."""
    text = README + (ROOT / "docs" / "sources.md").read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [line.removeprefix("$ ") for line in lines]
    return [line for line in found if re.match(r"pcace (run|layers) .*=", line)]


@pytest.mark.parametrize("command", [line for line in commands() if "n_imgs" not in line])
def test_the_overrides_of_every_command_compose(command: str) -> None:
    arguments = shlex.split(command, comments=True)[2:]
    overrides = [argument.split(",")[0] for argument in arguments if not argument.startswith("--")]
    assert overrides
    assert compose_settings(overrides).n_images >= 5


def test_the_commands_of_the_readme_are_found() -> None:
    assert len(commands()) >= 5
    assert "make run" in README.split("##")[0]
    assert "make test" in README.split("##")[0]
    assert len(README.splitlines()) <= 128  # details belong to the pages of the documentation


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_pages_have_a_target(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text) + re.findall(
        r"^\[[^]]+\]: (?!https?:)(\S+)", text, re.M
    ):
        assert (page.parent / target).exists(), target
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text):
        headings = re.findall(r"^#+ (.*)$", (page.parent / target if target else page).read_text(), re.M)
        assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings], anchor


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_paths_in_code_and_pages_exist(text: Path) -> None:
    """Paths are relative to the root of the project; a decision may be named by its number only."""
    named = re.findall(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*-]*\w", text.read_text())
    named = [path for path in named if not path.startswith((*ONLY_IN_WHEEL, *IN_THE_STARTER, *WRITTEN))]
    assert [path for path in named if not any(ROOT.glob(path)) and not any(ROOT.glob(f"{path}-*.md"))] == []


def test_constraints_pin_every_dependency_within_its_range() -> None:
    project = PYPROJECT["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    wanted = project["dependencies"] + [item for group in project["optional-dependencies"].values() for item in group]
    for requirement in map(Requirement, wanted):
        if requirement.name != "pcace":
            assert Version(pinned[canonicalize_name(requirement.name)]) in requirement.specifier, requirement


def test_the_makefile_has_its_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {
        "setup",
        "run",
        "test",
        "test-unit",
        "lint",
        "repro",
        "sweep",
        "ui",
        "notebooks",
        "docs",
        "bench",
        "clean",
    } <= targets


def test_actions_are_pinned_by_version_and_have_the_least_permissions() -> None:
    """`make lint` checks the workflows against their schemas."""
    workflows = sorted(GITHUB.glob("workflows/*.yml"))
    assert [path.stem for path in workflows] == ["docs", "release", "tests"]
    for path in workflows:
        text = path.read_text()
        used = re.findall(r"uses: (\S+)", text)
        assert used
        assert [action for action in used if not re.fullmatch(r"[\w./-]+@v\d+\.\d+\.\d+", action)] == []
        assert "\npermissions:\n  contents: read\n" in text
        assert len(re.findall("timeout-minutes:", text)) == len(re.findall("runs-on:", text))


def imported(source: str) -> set[str]:
    """Return the full names of the modules and of the names that a source file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_tests(source: str) -> list[str]:
    """Return the imports from test modules and from conftest.py."""
    parts = {name: name.split(".") for name in imported(source)}
    return sorted(
        name
        for name, (package, *rest) in parts.items()
        if package == "tests" and any(part == "conftest" or part.startswith("test_") for part in rest)
    )


def test_no_module_imports_a_test_module_or_conftest() -> None:
    """What several tests use is in the folder `tests.helpers`."""
    example = "from tests.stages import test_rank, b\nimport tests.conftest\nfrom tests.helpers import c"
    assert imported_tests(example) == ["tests.conftest", "tests.stages.test_rank"]
    folders = ("benchmarks", "examples", "pcace", "pipeline", "tests")
    paths = [path for folder in folders for path in ROOT.glob(f"{folder}/**/*.py")]
    found = {str(path.relative_to(ROOT)): imported_tests(path.read_text()) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}


def children(package: str) -> set[str]:
    """The names of the modules and packages in a package."""
    paths = (ROOT / package.replace(".", "/")).iterdir()
    return {path.stem for path in paths if path.suffix == ".py" or (path / "__init__.py").exists()} - {"__init__"}


@pytest.mark.parametrize("contract", LAYERS, ids=lambda contract: contract["name"])
def test_a_contract_of_layers_lists_every_module(contract: dict[str, Any]) -> None:
    """import-linter checks this, too, because the contracts are exhaustive; this test needs no import-linter."""
    (package,) = contract["containers"]
    assert contract["exhaustive"]
    assert sorted(re.findall(r"\w+", " ".join(contract["layers"]))) == sorted(children(package))


def test_the_top_level_modules_are_in_layers() -> None:
    assert ["pipeline"] in [contract["containers"] for contract in LAYERS]


def test_no_contract_lists_the_modules_that_must_not_import_a_package() -> None:
    """A new module would escape such a contract; the type "protected" lists those that may import it instead."""
    assert {each["type"] for each in CONTRACTS} == {"layers", "acyclic_siblings", "protected", "forbidden"}
    assert all(each["source_modules"] == ["pipeline"] for each in CONTRACTS if each["type"] == "forbidden")


def test_no_module_imports_itself_through_other_modules() -> None:
    """The contract of import-linter compares the modules of each package; this also covers its ``__init__``."""
    graph = grimp.build_graph("pcace", "pipeline", exclude_type_checking_imports=True, cache_dir=None)
    imports = [(name, other) for name in graph.modules for other in graph.find_modules_directly_imported_by(name)]
    assert len(imports) > len(graph.modules)
    assert [(name, other) for name, other in imports if graph.find_shortest_chain(other, name) is not None] == []
