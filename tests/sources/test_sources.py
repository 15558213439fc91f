from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.artifacts import ImageSet
from pipeline.errors import InputError
from pipeline.sources import ImageRequest, sklearn_digits
from pipeline.sources.base import Source
from pipeline.sources.folder import FolderSource
from pipeline.sources.sklearn_digits import DigitsSource, scans


def request(class_name: str | None, n_images: int = 5, select: str = "first", seed: int = 0) -> ImageRequest:
    return ImageRequest(class_name, n_images, select, seed)  # type: ignore[arg-type]


def fetch(source: Source, wanted: ImageRequest, folder: Path) -> ImageSet:
    folder.mkdir()
    calls: list[tuple[int, int]] = []
    images = source.fetch(wanted, folder, lambda done, total: calls.append((done, total)))
    assert calls == [(index + 1, wanted.n_images) for index in range(wanted.n_images)]
    return images


def photograph(path: Path, colour: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), (colour, 50, 50)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes with six and five images, and files that are not images."""
    for index in range(6):
        photograph(tmp_path / "photos" / "cat" / f"{index}.png", index)
    for index in range(5):
        photograph(tmp_path / "photos" / "dog" / f"{index}.JPG", index)
    (tmp_path / "photos" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "photos" / "papers").mkdir()
    return tmp_path / "photos"


def test_the_digits_are_the_unchanged_scans(tmp_path: Path) -> None:
    images = fetch(DigitsSource(), request("8"), tmp_path / "set")
    pixels, digits = scans()
    eights = np.flatnonzero(digits == 8)[:5]
    assert [record.id for record in images.records] == [f"8/{index:04d}" for index in eights]
    for path, index in zip(images.paths, eights, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels[index])
    assert pixels.max() == 240


def test_the_scans_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_digits()
    images, digits = scans()
    np.testing.assert_array_equal(images, expected.images * 15)
    np.testing.assert_array_equal(digits, expected.target)
    monkeypatch.setattr(sklearn_digits, "find_spec", lambda name: None)  # as if a version kept the file elsewhere
    again, digits_again = scans()
    np.testing.assert_array_equal(again, images)
    np.testing.assert_array_equal(digits_again, digits)
    assert (again.dtype, digits_again.dtype) == (images.dtype, digits.dtype)


def test_the_manifest_names_the_source_of_each_image(photos: Path, tmp_path: Path) -> None:
    images = fetch(FolderSource(str(photos)), request("dog"), tmp_path / "set").save(tmp_path / "set")
    loaded = ImageSet.load(tmp_path / "set")
    assert loaded == images
    record = loaded.records[1]
    assert (record.id, record.source, record.class_name) == ("dog/1.JPG", "folder:dog/1.JPG", "dog")
    assert (record.width, record.height) == (9, 7)
    assert record.sha256 == hashlib.sha256((photos / "dog" / "1.JPG").read_bytes()).hexdigest()
    assert str(tmp_path) not in (tmp_path / "set" / "manifest.csv").read_text()


def test_first_takes_images_by_name_and_random_draws_them_with_the_seed(photos: Path, tmp_path: Path) -> None:
    source = FolderSource(str(photos))
    first = fetch(source, request("cat"), tmp_path / "first")
    assert [record.id for record in first.records] == [f"cat/{index}.png" for index in range(5)]
    drawn = [
        tuple(record.id for record in fetch(source, request("cat", 5, "random", seed), tmp_path / f"{seed}").records)
        for seed in range(12)
    ]
    assert len(set(drawn)) > 1
    assert all(list(ids) == sorted(ids) and len(set(ids)) == 5 for ids in drawn)
    again = fetch(source, request("cat", 5, "random", 3), tmp_path / "again")
    assert tuple(record.id for record in again.records) == drawn[3]


def test_the_identity_depends_on_contents_not_on_paths(photos: Path, tmp_path: Path) -> None:
    before = FolderSource(str(photos)).identity(request("cat"))
    moved = photos.rename(tmp_path / "elsewhere")
    assert FolderSource(str(moved)).identity(request("cat")) == before
    photograph(moved / "cat" / "2.png", 200)
    assert FolderSource(str(moved)).identity(request("cat")) != before


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    for index in range(5):
        photograph(tmp_path / "flat" / f"{index}.png")
    source = FolderSource(str(tmp_path / "flat"))
    assert source.class_names() is None
    assert len(fetch(source, request(None), tmp_path / "set")) == 5
    assert len(fetch(source, request("tabby"), tmp_path / "named")) == 5


def test_too_many_images_are_refused(photos: Path) -> None:
    with pytest.raises(InputError) as caught:
        FolderSource(str(photos)).identity(request("cat", 7))
    assert str(caught.value) == (
        f"n_images must be at most 6; got 7 (class 'cat' of folder {photos}). Lower it or add images."
    )


def test_the_message_for_an_unknown_class_lists_the_nearest(photos: Path) -> None:
    with pytest.raises(InputError) as caught:
        FolderSource(str(photos)).identity(request("cats"))
    assert str(caught.value) == (
        f"class_name must be one of the data's 2 classes; got 'cats' (folder {photos}). Nearest: cat. "
        "For images of every class, set data.images_from=all."
    )
    with pytest.raises(InputError, match=r"^class_name must be one of the data's 10 classes; got 'ten'"):
        DigitsSource().identity(request("ten"))


def test_a_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^data\.root must be an existing folder; got .*/none\. Set it to the folder of the images\.$"
    ):
        FolderSource(str(tmp_path / "none"))
    with pytest.raises(
        InputError, match=r"^data\.root must contain images \(\.bmp, .+\); got folder .+, which has none\. "
    ):
        FolderSource(str(tmp_path)).by_class()


def truncated_jpeg() -> bytes:
    buffer = BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", truncated_jpeg()], ids=["empty", "html", "truncated"]
)
def test_an_image_that_cannot_be_decoded_is_named(photos: Path, tmp_path: Path, content: bytes) -> None:
    (photos / "cat" / "3.png").write_bytes(content)
    (tmp_path / "set").mkdir()
    with pytest.raises(
        InputError, match=r"^every image must be decodable; got 'cat/3\.png' \(.+\)\. Repair or remove it"
    ):
        FolderSource(str(photos)).fetch(request("cat"), tmp_path / "set", lambda done, total: None)
