from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.sources import ImageRequest
from pipeline.sources.choose import TooFewError, choose, interleaved
from pipeline.stages import download
from tests.helpers.servers import photograph
from tests.helpers.stages import fetch

ITEMS = {"a": ["a1", "a2", "a3", "a4"], "b": ["b1"], "c": ["c1", "c2", "c3"]}


def request(images_from: str, n: int, select: str = "first", seed: int = 0) -> ImageRequest:
    return ImageRequest("a", n, select, seed, images_from)  # type: ignore[arg-type]


def test_class_takes_the_images_of_the_class_in_order() -> None:
    assert choose(request("class", 3), ITEMS) == ["a1", "a2", "a3"]


def test_all_takes_one_image_of_each_class_in_turn() -> None:
    assert choose(request("all", 8), ITEMS) == ["a1", "b1", "c1", "a2", "c2", "a3", "c3", "a4"]


def test_balanced_alternates_the_class_and_the_others() -> None:
    assert choose(request("balanced", 5), ITEMS) == ["a1", "b1", "a2", "c1", "a3"]
    assert choose(request("balanced", 8), ITEMS) == ["a1", "b1", "a2", "c1", "a3", "c2", "a4", "c3"]


@pytest.mark.parametrize(("images_from", "most"), [("class", 4), ("all", 8), ("balanced", 8)])
def test_the_error_has_the_largest_possible_number(images_from: str, most: int) -> None:
    assert len(choose(request(images_from, most), ITEMS)) == most
    with pytest.raises(TooFewError) as caught:
        choose(request(images_from, most + 1), ITEMS)
    assert caught.value.n_available == most


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=5),
    st.sampled_from(["class", "all", "balanced"]),
    st.sampled_from(["first", "random"]),
    st.integers(1, 20),
    st.integers(0, 99),
)
def test_a_choice_is_exact_reproducible_and_without_duplicates(
    sizes: list[int], images_from: str, select: str, n: int, seed: int
) -> None:
    items = {chr(97 + k): [f"{chr(97 + k)}{index}" for index in range(size)] for k, size in enumerate(sizes)}
    wanted = request(images_from, n, select, seed)
    n_rest = sum(sizes[1:])
    most = {"class": sizes[0], "all": sum(sizes), "balanced": min(2 * sizes[0], 2 * n_rest + 1)}[images_from]
    if n > most:
        with pytest.raises(TooFewError):
            choose(wanted, items)
        return
    chosen = choose(wanted, items)
    assert chosen == choose(wanted, items)
    assert len(set(chosen)) == len(chosen) == n
    n_own = sum(name.startswith("a") for name in chosen)
    assert {"class": n_own == n, "all": True, "balanced": n_own == (n + 1) // 2}[images_from]


def test_groups_without_further_items_are_skipped() -> None:
    assert interleaved([[1], [], [2, 3]]) == [1, 2, 3]
    assert interleaved([]) == []


def test_images_from_changes_the_key_and_the_image_set(tmp_path: Path) -> None:
    sets, keys = {}, set()
    for images_from in ("class", "all", "balanced"):
        settings = compose_settings([f"data.images_from={images_from}", "n_images=20", "class_name=3"])
        reads = download.select(settings)
        images = fetch(settings, tmp_path / images_from)
        sets[images_from] = [record.class_name for record in images.records]
        keys.add(str(reads.identity()))
    assert sets["class"] == ["3"] * 20
    assert sets["all"] == [str(digit) for digit in range(10)] * 2
    assert sets["balanced"] == [name for digit in "0124567890" for name in ("3", digit)]
    assert len(keys) == 3


def test_several_classes_are_refused_for_a_source_without_classes(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / f"{index}.jpg").write_bytes(photograph(index))
    settings = compose_settings(["data=folder", f"data.root={tmp_path}", "data.images_from=all", "n_images=5"])
    with pytest.raises(InputError) as caught:
        download.select(settings).identity()
    assert str(caught.value) == (
        f"data.images_from must be class for a source without classes; got all (folder {tmp_path}). "
        "Use a source with classes: a folder with one subfolder per class, or a manifest with a class column."
    )


def test_the_message_for_too_many_images_names_the_classes() -> None:
    for images_from, n, line in (
        ("all", 1800, "n_images must be at most 1797; got 1800 (all classes of scikit-learn's digits). "),
        ("balanced", 350, "n_images must be at most 348; got 350 (half of them class '8' of scikit-learn's digits). "),
    ):
        with pytest.raises(InputError) as caught:
            download.select(
                compose_settings([f"data.images_from={images_from}", "class_name=8", f"n_images={n}"])
            ).identity()
        assert str(caught.value) == line + "Lower it or add images."
