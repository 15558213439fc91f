"""``make gallery``: every picture of the documentation is made by a command of the page ``docs/gallery.md``."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from PIL import Image

from docs import gallery
from pipeline import commands
from pipeline.config import compose_settings, register_resolvers
from tests.helpers.cli import command_line
from tests.helpers.project import ROOT

VARIABLES = {"CIFAR10": "/photographs/a folder", "CIFAR10_WEIGHTS": "weights.th", "IMAGENET": "/photographs/imagenet"}
CHEAP = (
    "n_images=30", "score.bootstrap=10", "score.permutations=10", "ablate.when=never", "visualize.maximize=never",
    "visualize.n_top=1", "visualize.n_bottom=1", "visualize.n_images=1", "visualize.dpi=50",
)  # fmt: skip
DRAWN_BY_HAND = ["explanation/pipeline.svg"]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def test_every_picture_of_the_pages_is_made_by_a_command() -> None:
    """`benchmarks.rankers` writes its figure into the folder where the page shows it."""
    names = {name for name, _ in gallery.commands()}
    assert names >= {"digits", "sanity", "components", "rankers"}
    made = {gallery.GALLERY / name / figure for name in names for figure in gallery.pictures(name)}
    benchmark = ROOT / "benchmarks" / "results" / "rankers.png"
    others = gallery.shown() - made - {benchmark}
    assert sorted(path.relative_to(gallery.DOCS).as_posix() for path in others) == DRAWN_BY_HAND
    assert {path for path in gallery.GALLERY.rglob("*") if path.is_file()} == made  # none is missing, none is unused
    assert "rankers.png" in (ROOT / "benchmarks" / "rankers.py").read_text()


@pytest.mark.parametrize("command", [command for _, command in gallery.commands() if command.startswith("pcace run")])
@pytest.mark.usefixtures("variables")
def test_the_settings_of_every_command_compose(command: str) -> None:
    register_resolvers()
    words = gallery.words_of(command)
    given = [word for word in words[2:] if "=" in word and not word.startswith("hydra.sweep")]
    settings = compose_settings([word if "[" in word else word.split(",")[0] for word in given])
    assert settings.n_images in (150, 300)


def test_a_missing_variable_is_reported_before_anything_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGENET", raising=False)
    monkeypatch.setattr(gallery, "run", lambda words: pytest.fail(f"{words} was run"))
    with pytest.raises(SystemExit) as caught:
        gallery.main(["digits", "church"])
    assert caught.value.code == (
        "error: the environment must have the variables of the page gallery.md; got no $IMAGENET. Set it."
    )


def test_an_unknown_name_is_reported() -> None:
    with pytest.raises(SystemExit) as caught:
        gallery.main(["digit"])
    assert str(caught.value.code).startswith("error: NAME must be one of digits, cifar_cat, cifar_network, church, ")
    assert str(caught.value.code).endswith("; got digit.")


def test_the_figures_of_a_sweep_and_of_its_comparison_are_made_and_copied(
    tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    with command_line(tracked, monkeypatch, capsys) as call:

        def run(words: list[str]) -> None:
            cheap = CHEAP if words[1] == "run" else ()
            assert call(*words[1:], *cheap, main=commands.main)[0] == 0, shlex.join(words)

        monkeypatch.setattr(gallery, "run", run)
        gallery.main(["components"], tmp_path / "made")
        with Image.open(tmp_path / "made" / "components" / "slopes.png") as picture:
            assert picture.width > 300
        with pytest.raises(SystemExit, match="a sweep must have a new folder; got outputs/gallery/components"):
            gallery.main(["components"], tmp_path / "made")
