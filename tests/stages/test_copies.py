"""Images that are copies of one another are counted, named, and kept together; a few different images are refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.artifacts import Activations, ChannelScores, ImageSet, Projections, Workspace
from pipeline.console import ConsoleObserver
from pipeline.decoding import decode
from pipeline.errors import InputError
from pipeline.numerics.groups import Groups
from pipeline.rankers import RankerInputs
from pipeline.rankers.ace import score_by_ace
from pipeline.records import Record, RecordingObserver
from pipeline.report_writer import ReportWriter
from pipeline.runner import run
from pipeline.settings import AceSettings, Settings
from pipeline.sources.sklearn_digits import scans
from pipeline.stages import download

NOTE = (
    "{copies} of the {n} images are copies of others (the same pixels), so only {different} images differ; "
    "copies are kept together in halves, folds and permutations"
)
Compose = Callable[..., Settings]


def folder_of(path: Path, n_different: int, n_copies: int, forms: tuple[str, ...] = ("png",)) -> Path:
    """Scans of eights, each `n_copies` times under different names, in the given formats in turn."""
    pixels, digits = scans()
    (path / "8").mkdir(parents=True)
    for index, place in enumerate(np.flatnonzero(digits == 8)[:n_different]):
        for copy in range(n_copies):
            form = forms[copy % len(forms)]
            Image.fromarray(pixels[place]).save(path / "8" / f"{copy:02d}_{index:03d}.{form}")
    return path


def downloaded(settings: Settings, folder: Path) -> ImageSet:
    folder.mkdir()
    images = download.run(download.select(settings), workspace=Workspace(folder), progress=lambda done, total: None)
    return images.save(folder)


def test_copies_are_counted_by_their_pixels_and_listed(tmp_path: Path, compose: Compose) -> None:
    root = folder_of(tmp_path / "photos", 6, 3, ("png", "bmp", "tif"))
    images = downloaded(compose("data=folder", f"data.root={root}", "n_images=18"), tmp_path / "set")
    assert len({record.sha256 for record in images.records}) == 18  # no two files have the same bytes
    assert images.n_copies == 12
    assert images.first_copies == tuple(index % 6 for index in range(18))
    assert images.note == NOTE.format(copies=12, n=18, different=6)
    assert images.description == "18 images of 8 x 8 pixels, 12 of them copies"
    assert ImageSet.load(tmp_path / "set") == images
    with (tmp_path / "set" / "copies.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[0] == {"image": "6", "copy_of": "0", "id": "8/01_000.bmp", "id_of_original": "8/00_000.png"}


def test_images_that_differ_leave_no_trace_of_it(tmp_path: Path, compose: Compose) -> None:
    images = downloaded(compose(), tmp_path / "set")
    assert (images.n_copies, images.note, images.first_copies) == (0, "", ())
    assert not (tmp_path / "set" / "copies.csv").exists()
    assert ImageSet.load(tmp_path / "set") == images


def test_image_sets_of_earlier_versions_have_copies_by_their_bytes(tmp_path: Path, compose: Compose) -> None:
    root = folder_of(tmp_path / "photos", 6, 2)
    images = downloaded(compose("data=folder", f"data.root={root}", "n_images=12"), tmp_path / "set")
    (tmp_path / "set" / "copies.csv").unlink()
    assert ImageSet.load(tmp_path / "set") == images
    assert images.n_copies == 6


def digest(image: Image.Image, form: str) -> str:
    buffer = BytesIO()
    image.save(buffer, form)
    return decode(buffer.getvalue()).digest


def test_grey_and_colour_images_of_the_same_pixels_are_copies() -> None:
    grey = Image.fromarray(np.arange(32, dtype=np.uint8).reshape(4, 8))
    same = {digest(grey, "PNG"), digest(grey.convert("RGB"), "PNG"), digest(grey, "GIF"), digest(grey, "PPM")}
    assert len(same) == 1
    turned, other_shape = grey.transpose(Image.Transpose.ROTATE_180), grey.reduce(1).resize((4, 8))
    assert not same & {digest(turned, "PNG"), digest(other_shape, "PNG")}


@pytest.mark.parametrize(("n_different", "n_copies"), [(3, 100), (1, 20), (4, 5)])
def test_too_few_different_images_are_refused_before_any_work(
    tmp_path: Path, compose: Compose, n_different: int, n_copies: int
) -> None:
    root = folder_of(tmp_path / "photos", n_different, n_copies)
    n_images = n_different * n_copies
    with pytest.raises(InputError) as caught:
        run(compose("data=folder", f"data.root={root}", f"n_images={n_images}"), tmp_path / "run")
    assert str(caught.value) == (
        f"images must include at least 5 that differ; got {n_different} among {n_images}, the others have the same "
        f"pixels (folder {root}). Add other images or remove the copies."
    )


def test_copies_are_named_by_console_report_and_record_and_give_no_evidence(
    tmp_path: Path, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of(tmp_path / "photos", 20, 10)
    settings = compose(
        "data=folder",
        f"data.root={root}",
        "n_images=200",
        "score.permutations=20",
        "score.bootstrap=8",
        "score.folds=4",
    )
    record = Record()
    observers = [ConsoleObserver(), RecordingObserver(record), ReportWriter("command")]
    for name in ("run", "again"):  # computed, and from the store
        record.notes.clear()
        result = run(settings, tmp_path / name, observers)
        note = NOTE.format(copies=180, n=200, different=20)
        assert record.notes == [note]
        assert note in " ".join(capsys.readouterr().out.split())
        assert note[1:-1] in (tmp_path / name / "report.html").read_text()
    scores = result.artifacts[ChannelScores]
    assert scores.curves["maximal"][-1, 0] == 10
    assert (scores.evidence["maximal"].q_value.dropna() > 0.04).all()


def test_a_score_that_copies_leave_too_few_images_for_is_refused(tmp_path: Path, compose: Compose) -> None:
    root = folder_of(tmp_path / "photos", 6, 10)
    settings = compose(
        "data=folder",
        f"data.root={root}",
        "n_images=60",
        "score.permutations=5",
        "score.folds=5",
        "rank.by=cross_fitted",
    )
    with pytest.raises(InputError) as caught:
        run(settings, tmp_path / "run")
    assert str(caught.value) == (
        "rank.by must be a score that can be computed; got cross_fitted, for which too few of the 60 images differ. "
        "Use rank.by=null, or images that are not copies of one another."
    )


def test_the_corrected_score_is_that_of_the_images_that_differ(compose: Compose) -> None:
    """Copies are fitted exactly at any number of images, so that half of them would show no bias."""
    rng = np.random.default_rng(0)
    values, response = rng.normal(size=(12, 30, 1)), rng.normal(size=30)

    def evidence(n_copies: int) -> pd.DataFrame:
        tiled, scores = np.tile(values, (1, n_copies, 1)), np.tile(response, n_copies)
        score = compose("score.permutations=0", "score.bootstrap=20", "score.folds=0").score
        assert isinstance(score, AceSettings)
        inputs = RankerInputs(
            settings=score,
            seed=0,
            activations=Activations(np.zeros((12, len(scores), 1, 1), np.float32), scores),
            projections=Projections(tiled, np.ones((12, 1)), np.zeros(12, bool)),
            open_network=lambda: pytest.fail("the network is not needed"),
            images=None,  # type: ignore[arg-type]
            batch_size=1,
            progress=lambda done, total: None,
            copies=None if n_copies == 1 else Groups.by_label(np.tile(np.arange(30), n_copies)),
        )
        return score_by_ace(inputs).evidence["maximal"]

    plain, copied = evidence(1), evidence(10)
    assert plain.corrected.mean() < 0.6  # of noise; the copies alone would give 1
    columns = ["corrected", "low", "high"]
    pd.testing.assert_frame_equal(copied[columns], plain[columns])


def test_other_rankers_keep_copies_together_too(tmp_path: Path, compose: Compose) -> None:
    root = folder_of(tmp_path / "photos", 20, 5)
    result = run(
        compose("data=folder", f"data.root={root}", "n_images=100", "score=pearson", "score.bootstrap=8"),
        tmp_path / "run",
    )
    assert result.artifacts[ChannelScores].curves["pearson"][-1, 0] == 10


def test_with_few_different_images_the_number_of_components_must_be_given(tmp_path: Path, compose: Compose) -> None:
    root = folder_of(tmp_path / "photos", 9, 2)
    with pytest.raises(InputError) as caught:
        run(compose("data=folder", f"data.root={root}", "n_images=18", "n_components=auto"), tmp_path / "run")
    assert str(caught.value) == (
        "n_components must be a number with fewer than 10 different images; got auto with 9. "
        "Set it, for example n_components=1, or add images."
    )
