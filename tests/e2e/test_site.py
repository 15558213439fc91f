"""The documentation as its reader uses it: code blocks are run, the site is built, and its links are followed.

The blocks share one store and one MLflow database, and each command is run once, with fewer images and permutations
than it would have by default, unless it states them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from docs import tables
from pipeline import commands
from tests.helpers.cli import Cli, command_line
from tests.helpers.pages import BLOCKS, Block
from tests.helpers.project import ROOT

CHEAP = (
    "n_images=40", "score.bootstrap=20", "score.permutations=20", "ablate.n_draws=2", "visualize.maximize=never",
    "visualize.n_top=1", "visualize.n_bottom=1", "visualize.n_images=1", "visualize.dpi=50", "hydra.run.dir=run",
)  # fmt: skip
SHELL = [block for block in BLOCKS if block.language == "sh" and block.mark in ("", "fails")]
PYTHON = [block for block in BLOCKS if block.language == "python" and not block.mark]


@pytest.fixture
def cheap_cli(
    tmp_path: Path, tracked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    monkeypatch.chdir(tmp_path)
    with command_line(tracked, monkeypatch, capsys) as call:
        yield call


def cheap(words: list[str]) -> list[str]:
    """Return the arguments of a command, with cheap settings where it has no others."""
    if words[:1] != ["run"] or "--help" in words:
        return words
    given = {word.partition("=")[0] for word in words}
    others = [each for each in CHEAP if each.partition("=")[0] not in given]
    is_ace = not any(word.startswith("score=") for word in words)
    is_sweep = "--multirun" in words
    left_out = [*([] if is_ace else ["score.permutations"]), *(["hydra.run.dir"] if is_sweep else [])]
    return [*words, *(each for each in others if each.partition("=")[0] not in left_out)]


def test_the_commands_of_the_pages_run(cheap_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test, because the blocks build on one another, and on the same store."""
    done: set[str] = set()
    printed: dict[str, list[str]] = {}
    for block in SHELL:
        monkeypatch.chdir(tmp_path)
        for command in block.commands():
            words = shlex.split(command, comments=True)
            if words[0] == "cd":
                monkeypatch.chdir(words[1])
            elif command not in done:
                assert words[0] == "pcace", command
                code, out, err = cheap_cli(*cheap(words[1:]), main=commands.main)
                assert (code, bool(err)) == ((1, True) if block.mark == "fails" else (0, False)), (command, err)
                printed[command] = out or err
                done.add(command)
    assert "pcace init my_ranking" in done
    assert printed["pcace run n_imgs=3 n_components=0"] == messages()
    assert printed["pcace layers experiment=mine"] == [*listed(), *printed["pcace layers experiment=mine"][4:]]
    assert printed["pcace run --multirun layer=conv1,conv2"][-2].startswith("2 of 2 jobs finished.")
    check_tables(tmp_path)


def block_after(page: str, start: str) -> Block:
    """The block of output of a page that begins with a text."""
    (found,) = [block for block in BLOCKS if block.page == page and block.text.startswith(start)]
    return found


def messages() -> list[str]:
    """The messages that the page shows."""
    return block_after("start.md", "error: n_components").text.splitlines()


def listed() -> list[str]:
    """The layers that the tutorial shows, as the command aligns them."""
    lines = block_after("tutorial.md", "layer  ").text.splitlines()
    width = max(map(len, lines))
    return [line.ljust(width) for line in lines]


def check_tables(folder: Path) -> None:
    """Compare the columns of the reference with those of the tables that the commands have written."""
    known = {name: set(table.columns) for table in tables.TABLES for name in table.title.split(", ")}
    runs = [*folder.glob("run/*.csv"), *folder.glob("outputs/sweeps/*/summary.csv")]
    runs += folder.glob("outputs/store/*/*/*.csv")
    seen = {name: set[str]() for name in known}
    for path in runs:
        seen[path.name] |= set(pd.read_csv(path).columns)
    # The columns of other rankers and smoothers, and of images from the web or with copies, are not in these runs.
    for name in ("effects.csv", "curves.csv", "manifest.csv", "summary.csv"):
        assert seen[name] == known[name], name
    for name in ("network.csv", "layers.csv", "not_ranked.csv"):
        assert seen[name] == known[name], name
    assert seen["ranking.csv"] == known["ranking.csv"] - {"iterations"}
    artifacts = {path.parents[1].name: path.parent for path in folder.glob("outputs/store/*/*/artifact.json")}
    for stage, artifact in artifacts.items():
        names = {path.relative_to(artifact).as_posix() for path in artifact.rglob("*") if path.is_file()}
        patterns = [re.compile(re.escape(name).replace(r"\*", ".*")) for name in tables.FILES[stage]]
        unknown = [name for name in names - {"artifact.json"} if not any(each.fullmatch(name) for each in patterns)]
        assert unknown == []
    assert set(artifacts) == set(tables.FILES)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: Path(block.page).stem)
def test_the_python_code_of_a_page_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "timm" in block.text:
        pytest.importorskip("timm", reason="needs the package of the extra timm")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    exec(compile(block.text, block.page, "exec"), names)
    plt.close("all")
    assert list(tmp_path.iterdir()) == []
    assert (
        names.get("ranking") is not None or names.get("comparison") is not None or "found" in names or "effect" in names
    )


class Links(HTMLParser):
    """The ids and the links of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember the id and the addresses of an element."""
        del tag
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name in ("href", "src") and value:
                self.targets.append(value)


def test_the_site_is_built_without_warnings_and_its_links_have_targets(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="needs the packages of the extra docs")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(site)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = {page.resolve(): Links(page) for page in site.rglob("*.html")}
    assert len(found) > 60
    checked = 0
    for page, links in found.items():
        for target in links.targets:
            address = urlsplit(target)
            if address.scheme in ("http", "https", "data", "mailto"):
                # A link to read, and nothing that the page itself loads.
                assert f'src="{target}"' not in page.read_text(encoding="utf-8"), target
                continue
            path = (page.parent / unquote(address.path)).resolve() if address.path else page
            assert path.exists(), f"{page.name}: {target}"
            if address.fragment and path in found:
                assert unquote(address.fragment) in found[path].ids, f"{page.name}: {target}"
            checked += 1
    assert checked > 1000
    assert "permutation" in (site / "searchindex.js").read_text(encoding="utf-8")
    assert "default <code" in (site / "reference" / "settings.html").read_text(encoding="utf-8")
