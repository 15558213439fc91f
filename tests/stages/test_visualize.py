"""The stage that draws: a figure that cannot be drawn is left out with a note, and the run finishes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from pipeline.artifacts import Artifact, Figures, Workspace
from pipeline.config import compose_settings
from pipeline.errors import InputError, NetworkError, StorageError
from pipeline.figures import cam, catalogue, gallery, network_views, style
from pipeline.networks import attribution
from pipeline.report_writer import ReportWriter
from pipeline.resolve import resolve
from pipeline.runner import STAGES, run
from pipeline.settings import Settings
from pipeline.stages import visualize
from tests.helpers.settings import SMALL, Compose

MAXIMIZED = ("visualize.maximize=always", "visualize.maximize_steps=2")
Draw = Callable[..., Figures]

# Figures that a run with a class activation map and the supersmoother has no data for.
NOT_DRAWN = {"grad_cam", "predictions"}


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_arguments: Any, **_options: Any) -> NoReturn:
        raise error

    return fail


def fail_figure(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """Let the drawing of a figure of the catalogue raise an exception."""
    entry = replace(catalogue.FIGURES[name], draw=raising(error))
    monkeypatch.setitem(catalogue.FIGURES, name, entry)


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.png")}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, dict[str, Artifact]]:
    """Resolved settings, and the artifacts of all stages before this one."""
    folder = tmp_path_factory.mktemp("upstream")
    settings = resolve(compose_settings([f"paths.outputs={folder}", *SMALL, *MAXIMIZED]))
    made: dict[str, Artifact] = {}
    for stage in STAGES[:-1]:
        own = folder / stage.name
        own.mkdir()
        inputs = {name: made[name] for name in stage.upstream}
        stage.compute(settings, inputs, Workspace(own), lambda done, total: None).save(own)
        made[stage.artifact.name] = stage.artifact.load(own)
    return settings, made


@pytest.fixture
def draw(upstream: tuple[Settings, dict[str, Artifact]], tmp_path: Path) -> Draw:
    """Run the stage alone, and return the figures as they are loaded from the folder ``drawn``."""
    settings, made = upstream
    folder = tmp_path / "drawn"
    folder.mkdir()

    def _draw(**choice: Any) -> Figures:
        chosen = replace(settings, visualize=replace(settings.visualize, **choice))
        inputs = {name: made[name] for name in visualize.STAGE.upstream}
        visualize.STAGE.compute(chosen, inputs, Workspace(folder), lambda done, total: None).save(folder)
        return Figures.load(folder)

    return _draw


def test_a_run_without_one_of_its_figures_finishes_and_says_why(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_figure(monkeypatch, "cam", ValueError("there is no map.\nMore about it."))
    result = run(compose(), tmp_path / "run", [ReportWriter("x")])
    note = "figure cam could not be drawn (ValueError: there is no map)"
    assert result.notes == [note]
    drawn = names(tmp_path / "run" / "figures")
    assert drawn == set(catalogue.FIGURES) - {"cam", "maximization"} - NOT_DRAWN
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<li>Figure cam could not be drawn (ValueError: there is no map).</li>" in page
    assert page.count("<figcaption>") == len(drawn - {"ranking_curve"})
    again = run(compose(), tmp_path / "again")
    assert (again.reports[-1].is_cached, again.notes) == (True, [note])


@pytest.mark.parametrize("name", sorted(set(catalogue.FIGURES) - NOT_DRAWN))
def test_each_figure_can_fail_alone(draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(style, "render_png", lambda figure, dpi: b"")  # rendering takes longest
    fail_figure(monkeypatch, name, TypeError())
    assert draw().notes == (f"figure {name} could not be drawn (TypeError)",)
    assert names(tmp_path / "drawn") == set(catalogue.FIGURES) - {name} - NOT_DRAWN


@pytest.mark.parametrize(
    ("module", "function", "missing", "note"),
    [
        (attribution, "class_activation", "cam", "class activation maps could not be computed"),
        (network_views, "maximized", "maximization", "activation maximisation could not be computed"),
        (cam, "overlay_image", "overlays", "overlays could not be drawn"),
        (gallery, "draw_card", "channels", "pictures of the best channels could not be drawn"),
    ],
)
def test_the_data_of_figures_can_fail_alone(
    draw: Draw,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    function: str,
    missing: str,
    note: str,
) -> None:
    monkeypatch.setattr(style, "render_png", lambda figure, dpi: b"")
    monkeypatch.setattr(module, function, raising(NetworkError("out of memory")))
    assert draw().notes == (f"{note} (NetworkError: out of memory)",)
    drawn = {path.stem for path in (tmp_path / "drawn").iterdir()}
    expected = set(catalogue.FIGURES) - NOT_DRAWN | {"overlays", "channels", "gallery", "notes"}
    assert drawn == expected - ({"cam", "overlays"} if missing == "cam" else {missing})


def test_overlays_are_complete_or_absent(draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay, n_calls = cam.overlay_image, 0

    def fail_at_third(*arguments: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        return overlay(*arguments) if n_calls < 3 else raising(ValueError("the third"))()

    monkeypatch.setattr(style, "render_png", lambda figure, dpi: b"")
    monkeypatch.setattr(cam, "overlay_image", fail_at_third)
    assert draw(n_images=2).notes == ("overlays could not be drawn (ValueError: the third)",)
    assert not (tmp_path / "drawn" / "overlays").exists()


def test_a_drawing_that_cannot_be_rendered_is_left_out(
    draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "render_png", raising(OverflowError("\n" + "x" * 150 + "\0\x1c" + "y" * 900)))
    notes = draw().notes
    assert names(tmp_path / "drawn") == set()
    assert len(notes) == len(catalogue.FIGURES) - len(NOT_DRAWN)
    assert notes[0] == f"figure activation_maps could not be drawn (OverflowError: {'x' * 150}\ufffd)"
    assert all(len(note) < 300 for note in notes)


@pytest.mark.parametrize("error", [InputError("channel 99."), StorageError("disk."), KeyboardInterrupt()])
def test_errors_of_the_settings_and_of_the_disk_fail_the_run(
    draw: Draw, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(style, "render_png", lambda figure, dpi: b"")
    fail_figure(monkeypatch, "transforms", error)
    with pytest.raises(type(error)):
        draw()


def test_a_full_disk_fails_the_run(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "render_png", lambda figure, dpi: b"")
    monkeypatch.setattr(Path, "write_bytes", raising(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device"):
        draw()


def test_channels_and_images_are_checked_before_anything_is_computed(
    draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "class_activation", raising(KeyboardInterrupt()))
    with pytest.raises(InputError, match=r"^visualize\.channels must be below 16; got 16 "):
        draw(channels=(3, 16))
    with pytest.raises(InputError, match=r"^visualize\.image_ids must be among the 20 images of the set; got 'no'\."):
        draw(image_ids=("no",))
