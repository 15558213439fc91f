from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.settings import Settings
from pipeline.sources import source_for
from pipeline.stages import download
from tests.helpers.servers import photograph
from tests.helpers.stages import fetch


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Twenty images in folders whose names have no meaning, and a table with their classes and splits."""
    rows = []
    for index in range(20):
        path = f"photos/{index % 3}/{19 - index:02d}.jpg"
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(photograph(index))
        rows.append({"path": path, "class": index % 2 + 9, "split": "test" if index >= 16 else "train"})
    return pd.DataFrame(rows)


def settings(file: Path, *overrides: str) -> Settings:
    return compose_settings(["data=manifest", f"data.file={file}", "n_images=5", "class_name=9", *overrides])


def test_csv_and_parquet_give_the_same_images_in_the_order_of_the_rows(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "images.csv", index=False)
    table.to_parquet(tmp_path / "images.parquet")
    sets = [fetch(settings(tmp_path / f"images.{kind}"), tmp_path / kind) for kind in ("csv", "parquet")]
    expected = table.path[table["class"] == 9][:5].tolist()
    for images in sets:
        assert [record.id for record in images.records] == expected
        assert {record.class_name for record in images.records} == {"9"}
    keys = {str(download.select(settings(tmp_path / f"images.{kind}")).identity()) for kind in ("csv", "parquet")}
    assert len(keys) == 1


def test_classes_that_are_numbers_are_sorted_as_numbers(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "images.csv", index=False)
    assert source_for(settings(tmp_path / "images.csv").data, tmp_path).class_names() == ("9", "10")


def test_only_the_rows_of_the_split_are_used(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "images.csv", index=False)
    with pytest.raises(InputError, match=r"^n_images must be at most 2; got 5 \(class '9' of manifest "):
        fetch(settings(tmp_path / "images.csv", "data.split=test"), tmp_path / "set")
    with pytest.raises(InputError) as caught:
        fetch(settings(tmp_path / "images.csv", "data.split=val"), tmp_path / "val")
    assert str(caught.value) == (
        f"data.split must be one of test, train; got 'val' (manifest {tmp_path / 'images.csv'})."
    )


def test_a_table_without_classes_serves_any_class(table: pd.DataFrame, tmp_path: Path) -> None:
    table[["path"]].rename(columns={"path": "file"}).to_csv(tmp_path / "images.csv", index=False)
    images = fetch(settings(tmp_path / "images.csv", "data.path_column=file"), tmp_path / "set")
    assert [record.id for record in images.records] == table.path[:5].tolist()


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/hostname", "photos/../../secret.jpg", "link/secret.jpg"])
def test_a_path_that_leads_out_of_the_folder_is_refused(table: pd.DataFrame, tmp_path: Path, path: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.jpg").write_bytes(photograph(99))
    (inside / "link").symlink_to(tmp_path)
    (inside / "images.csv").write_text(f"path\n{path}\n")
    with pytest.raises(InputError) as caught:
        fetch(settings(inside / "images.csv"), tmp_path / "set")
    assert str(caught.value) == (
        f"every path must be inside {inside}; got '{path}' (manifest {inside / 'images.csv'}). "
        "Set data.root to a folder that contains all images."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "file\na.jpg\n",
            "data.path_column must name a column of the table; got 'path' ({source}). The columns are: file.",
        ),
        ("path\n", "data.file must have at least one row; got {source}, which has none."),
        (
            "path,class\na.jpg,\n",
            "every row must have a 'class'; got none in row 1 ({source}). Complete or remove the row.",
        ),
        (
            "path\na.jpg\na.jpg\n",
            "every path must occur once; got 'a.jpg' twice ({source}). Remove one of the rows.",
        ),
        (None, "data.file must be an existing file; got {file}."),
        ("", "data.file must be a CSV or Parquet table; got {file} (No columns to parse from file)."),
    ],
)
def test_an_invalid_table_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "images.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError) as caught:
        fetch(settings(file), tmp_path / "set")
    assert str(caught.value) == message.format(file=file, source=f"manifest {file}")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("path\n" + "".join(f"{index}.jpg\n" for index in range(5)))
    with pytest.raises(InputError, match=r"^every image must be readable; got '0\.jpg' \(No such file or directory\)"):
        fetch(settings(tmp_path / "images.csv"), tmp_path / "set")
