"""Tables as spreadsheets and other systems write them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.settings import Settings
from pipeline.sources import ImageRequest, source_for
from pipeline.sources.base import LocalSource
from pipeline.sources.folder import FolderSource
from pipeline.sources.tables import read_table

PATHS = [f"img/{letter}{index}.png" for index in range(6) for letter in "ab"]
ROWS = [(path, "Scratch" if "b" in path else "None") for path in PATHS]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a subfolder of images."""
    for index, path in enumerate(PATHS):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / path)
    return tmp_path


def settings(file: Path, *overrides: str) -> Settings:
    return compose_settings(["data=manifest", f"data.file={file}", "n_images=5", *overrides])


def manifest(folder: Path, content: str | bytes, *overrides: str, name: str = "images.csv") -> LocalSource:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    source = source_for(settings(folder / name, *overrides).data, folder)
    assert isinstance(source, LocalSource)
    return source


def ids(source: LocalSource) -> dict[str, list[str]]:
    return {name: [candidate.id for candidate in found] for name, found in source.by_class().items()}


def written(header: str = "path,class", rows: list[tuple[str, str]] = ROWS, between: str = ",", end: str = "\n") -> str:
    return end.join([header, *(between.join(row) for row in rows)]) + end


PLAIN = written()
SPELLINGS: dict[str, str | bytes] = {
    "semicolons": written("path;class", between=";"),
    "tabs": written("path\tclass", between="\t"),
    "excel's first line": "sep=;\r\n" + written("path;class", between=";", end="\r\n"),
    "backslashes": PLAIN.replace("/", "\\"),
    "a dot and backslashes": PLAIN.replace("img/", ".\\img\\"),
    "windows line ends": PLAIN.replace("\n", "\r\n"),
    "old mac line ends": PLAIN.replace("\n", "\r"),
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "utf-16": PLAIN.encode("utf-16"),
    "utf-16 with tabs": written("path\tclass", between="\t", end="\r\n").encode("utf-16"),
    "blank lines": "\n" + PLAIN.replace("\n", "\n\n"),
    "empty rows": PLAIN + ",\n,\n",
    "empty columns": PLAIN.replace("\n", ",,\n"),
    "empty cells after the rows": PLAIN.replace("\n", ",\n").replace("path,class,", "path,class"),
    "no last line end": PLAIN.rstrip("\n"),
    "white space": written(" path , class ", between=" , "),
    "quotes": written('"path","class"', [(f'"{path}"', f'"{name}"') for path, name in ROWS]),
    "more columns": written("note,class,path", [('"a, b; c"', f"{name},{path}") for path, name in ROWS]),
    "absolute paths": "",  # filled in by the test
}


@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_every_spelling_of_a_table_gives_the_same_images(images: Path, spelling: str) -> None:
    expected = {"None": PATHS[::2], "Scratch": PATHS[1::2]}
    content = SPELLINGS[spelling] or PLAIN.replace("img/", f"{images}/img/")
    assert ids(manifest(images, content)) == expected


def test_the_identity_does_not_depend_on_the_spelling(images: Path) -> None:
    request = ImageRequest("None", 5, "first", 0)
    plain = manifest(images, PLAIN).identity(request)
    for spelling, content in SPELLINGS.items():
        if content:
            assert manifest(images, content).identity(request) == plain, spelling


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan", "N/A", "-", "1e3", "0x1F", "true", "20_05", "a;b"])
def test_a_class_may_have_any_name(images: Path, name: str) -> None:
    source = manifest(images, written(rows=[(path, name) for path in PATHS]))
    assert ids(source) == {name: PATHS}
    frame = pd.DataFrame({"path": PATHS, "class": [name] * len(PATHS)})
    frame.to_parquet(images / "images.parquet")
    assert ids(source_for(settings(images / "images.parquet").data, images)) == {name: PATHS}  # type: ignore[arg-type]


def test_a_name_may_contain_commas_and_line_ends(images: Path) -> None:
    rows = [(path, '"crane, bird"' if "a" in path else '"two\nlines"') for path in PATHS]
    assert list(ids(manifest(images, written(rows=rows)))) == ["crane, bird", "two\nlines"]


def test_numeric_names_keep_their_zeros_and_are_sorted_as_numbers(images: Path) -> None:
    names = ["00014", "00002", "007", "7", "10", "9"]
    rows = [(path, names[index % 6]) for index, path in enumerate(PATHS)]
    assert manifest(images, written(rows=rows)).class_names() == ("00002", "007", "7", "9", "10", "00014")
    assert manifest(images, written(rows=rows[::-1])).class_names() == ("00002", "007", "7", "9", "10", "00014")
    assert settings(images / "images.csv", "class_name=007").class_name == "007"


def test_whole_numbers_with_gaps_are_no_fractions_in_parquet(images: Path) -> None:
    frame = pd.DataFrame({"path": [*PATHS, "unused.png"], "class": [7.0] * 6 + [12.0] * 6 + [np.nan]})
    frame["split"] = ["train"] * 12 + ["test"]
    frame.to_parquet(images / "images.parquet")
    source = source_for(settings(images / "images.parquet", "data.split=train").data, images)
    assert source.class_names() == ("7", "12")


def test_a_file_whose_own_name_has_a_backslash_is_found(images: Path) -> None:
    (images / "img\\x.png").write_bytes((images / PATHS[0]).read_bytes())
    (images / "img" / "x.png").write_bytes((images / PATHS[1]).read_bytes())
    source = manifest(images, "path\nimg\\x.png\nimg\\a0.png\n")
    assert ids(source) == {"": ["img\\x.png", "img/a0.png"]}


OUTSIDE = (
    "every path must be inside {folder}; got '{path}' ({source}). Set data.root to a folder that contains all images."
)


@pytest.mark.parametrize(
    "path", ["..\\secret.png", "img\\..\\..\\secret.png", "C:\\photos\\a.png", "d:/a.png", "\\\\server\\share\\a.png"]
)
def test_a_path_from_windows_does_not_lead_out_of_the_folder_either(images: Path, path: str) -> None:
    source = manifest(images, f"path\n{path}\n")
    with pytest.raises(InputError) as caught:
        source.by_class()
    assert str(caught.value) == OUTSIDE.format(folder=images, path=path, source=source)


MESSAGES: dict[str, tuple[str | bytes, str]] = {
    "two columns of one name": (
        "path,class,class\nimg/a0.png,x,y\n",
        "every column must have a name of its own; got 'class' 2 times ({source}). Rename or remove the others.",
    ),
    "one file by two paths": (
        "path\nimg/a0.png\n./img/../img/a0.png\n",
        "every path must occur once; got 'img/a0.png' twice ({source}). Remove one of the rows.",
    ),
    "one file in two classes": (
        "path,class\nimg/a0.png,x\nimg\\a0.png,y\n",
        "every path must occur once; got 'img/a0.png' twice ({source}). Remove one of the rows.",
    ),
    "too many cells": (
        "path,class\nimg/a0.png,crane, bird\n",
        "data.file must be a CSV or Parquet table; got {file} (row 1 has 3 cells, the header 2).",
    ),
    "a quote that does not end": (
        'path,class\n"img/a0.png,x\nimg/b0.png,y\n',
        "data.file must be a CSV or Parquet table; got {file} (line 3: unexpected end of data).",
    ),
    "latin-1": (
        "path,class\nimg/a0.png,caf\xe9\n".encode("latin-1"),
        "data.file must be a text file in UTF-8; got {file} (byte 25 is not valid UTF-8). Save it as UTF-8.",
    ),
    "a null character": (
        "path\nimg/\0.png\n",
        "every path must name a file; got 'img/\\x00.png' (embedded null byte; {source}). Correct or remove the row.",
    ),
    "only a header of separators": (
        ";;\n",
        "data.file must be a CSV or Parquet table; got {file} (No columns to parse from file).",
    ),
}


@pytest.mark.parametrize("case", list(MESSAGES))
def test_a_table_that_cannot_be_understood_is_refused_in_one_line(images: Path, case: str) -> None:
    content, message = MESSAGES[case]
    source = manifest(images, content)
    with pytest.raises(InputError) as caught:
        source.by_class()
    assert str(caught.value) == message.format(file=images / "images.csv", source=source)


def test_a_circle_of_links_is_refused_in_one_line(images: Path) -> None:
    (images / "one").symlink_to(images / "other")
    (images / "other").symlink_to(images / "one")
    with pytest.raises(
        InputError, match=r"^every path must name a file; got 'one' \(.+; manifest .+\)\. Correct or rem"
    ):
        manifest(images, "path\none\n").by_class()


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"'), min_size=1, max_size=8).filter(
    lambda text: text.strip() == text and not text.startswith("sep=")
)


@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"])
)
def test_what_a_spreadsheet_writes_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str, end: str
) -> None:
    file = tmp_path_factory.mktemp("table") / "table.csv"
    frame = pd.DataFrame(rows, columns=["path", "class"])
    frame.to_csv(file, index=False, sep=delimiter, lineterminator=end, encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read_table(file), frame.astype(object), check_dtype=False)


def test_a_table_with_tabs_is_a_table_for_lists_of_addresses_too(tmp_path: Path) -> None:
    for name, content in (
        ("list.tsv", "n\turl\n1\thttp://a/1.jpg\n\t\n3\thttp://a/3.jpg\n"),
        ("list.csv", "n;url\n1;http://a/1.jpg\n;\n3;http://a/3.jpg\n"),
    ):
        (tmp_path / name).write_text(content)
        source = source_for(compose_settings(["data=urls", f"data.file={tmp_path / name}"]).data, tmp_path)
        entries = source.entries()  # type: ignore[attr-defined]
        assert [(entry.number, entry.label) for entry in entries] == [(1, "http://a/1.jpg"), (3, "http://a/3.jpg")]


def test_a_decimal_comma_is_not_taken_for_another_place(tmp_path: Path) -> None:
    (tmp_path / "panoramas.csv").write_text("gsv_lat;gsv_lng\n51.5;-0.1\n51,5;-0,1\n")
    source = source_for(
        compose_settings(["data=street_view", f"data.file={tmp_path / 'panoramas.csv'}"]).data, tmp_path
    )
    with pytest.raises(InputError) as caught:
        source.entries()  # type: ignore[attr-defined]
    assert str(caught.value) == (
        "gsv_lat must be a number of degrees from -90 to 90, with a decimal point; got '51,5' (row 2 of street_view "
        f"{tmp_path / 'panoramas.csv'}). Correct or remove the row."
    )


def test_images_whose_suffix_is_less_usual_are_found(tmp_path: Path) -> None:
    photograph = Image.new("RGB", (8, 8))
    forms = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c.pgm": "PPM", "d.pbm": "PPM", "e.pnm": "PPM", "f.TIFF": "TIFF"}
    for name, form in forms.items():
        photograph.save(tmp_path / name, form)
    assert ids(FolderSource(str(tmp_path))) == {"": list(forms)}


def test_a_name_that_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    for index in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes((tmp_path / "0.png").read_bytes())
    source = FolderSource(str(tmp_path))
    with pytest.raises(InputError) as caught:
        source.identity(ImageRequest(None, 5, "first", 0))
    assert str(caught.value) == (
        f"the name of every image must be valid UTF-8; got 'caf\\udce9.png' (folder {tmp_path}). Rename it."
    )
    assert source.identity(ImageRequest(None, 4, "first", 0))["source"] == "folder"
