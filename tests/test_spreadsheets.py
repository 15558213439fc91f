"""No text in the CSV files for people is a formula to a spreadsheet, and every text can be had back."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import Effects, ImageRecord, ImageSet, Ranking
from pipeline.sources.downloads import Entry, _write_report
from pipeline.sources.outcomes import Outcome, Outcomes
from pipeline.spreadsheets import marked, marked_table, original

NAMES = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "=cmd|' /C calc'!A0",
    "'=1",
    "''=1",
    "\uff1d1",
    '=HYPERLINK("x")',
]
HARMLESS = ["cat", "", "'tis", "1-1", "a=b", " =1", "{{7*7}}${7*7}", "007"]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_a_spreadsheet_would_compute_is_marked(name: str) -> None:
    assert marked(name) == f"'{name}"
    assert original(marked(name)) == name


@pytest.mark.parametrize("name", HARMLESS)
def test_any_other_text_is_written_as_it_is(name: str) -> None:
    assert marked(name) == original(name) == name


@given(st.text("=+-@'\t\ra1 \uff1d", max_size=6))
def test_marks_can_be_taken_away_again(text: str) -> None:
    assert original(marked(text)) == text
    assert marked(text)[:1] not in ("=", "+", "-", "@", "\t", "\r", "\uff1d")


def test_numbers_are_not_texts() -> None:
    table = pd.DataFrame({"score": [-0.5, 1.0], "n": [-1, 2], "name": ["-0.5", None], "dead": [True, False]})
    written = marked_table(table)
    assert written.name.tolist()[0] == "'-0.5"
    pd.testing.assert_frame_equal(written.drop(columns="name"), table.drop(columns="name"))
    assert table.name.tolist()[0] == "-0.5"  # the table itself keeps its texts
    assert marked_table(pd.DataFrame({"+x=1": [1]})).columns.tolist() == ["'+x=1"]


def cells(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [cell for row in csv.reader(file) for cell in row]


def assert_safe(path: Path) -> None:
    texts = [cell for cell in cells(path) if not cell.lstrip("-").replace(".", "").isdecimal()]
    assert texts
    assert not [cell for cell in texts if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]


def test_the_manifest_is_safe_and_comes_back_as_it_was(tmp_path: Path) -> None:
    record = ImageRecord("id", "source", "images/00000.png", "0" * 64, 8, 8, "class")
    records = [
        replace(record, id=f"{name}/{index}.png", source=f"{name}:x", class_name=name, sha256=str(index))
        for index, name in enumerate(NAMES + HARMLESS)
    ]
    images = ImageSet(tmp_path, tuple(records), (*range(len(records) - 1), 0))
    images.save(tmp_path)
    assert_safe(tmp_path / "manifest.csv")
    assert_safe(tmp_path / "copies.csv")
    assert ImageSet.load(tmp_path) == images


def test_manifests_of_earlier_versions_are_read_as_they_are(tmp_path: Path) -> None:
    record = ImageRecord("=a", "'tis", "images/00000.png", "0" * 64, 8, 8, "-1")
    header = "id,source,file,sha256,width,height,class_name\n"
    (tmp_path / "manifest.csv").write_text(header + f"=a,'tis,images/00000.png,{'0' * 64},8,8,-1\n")
    assert ImageSet.load(tmp_path).records == (record,)


def test_the_ranking_is_safe_in_csv_and_exact_in_parquet(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"rank": [1, 2], "channel": [0, 1], "score": [0.5, -0.5], "dead": [False, False], "model": "@net",
         "layer": "-conv", "class_name": "=1+1", "n_images": 5}
    )  # fmt: skip
    Ranking(table).save(tmp_path)
    assert_safe(tmp_path / Ranking.CSV)
    assert ",-0.5," in (tmp_path / Ranking.CSV).read_text()
    pd.testing.assert_frame_equal(Ranking.load(tmp_path).table, table)
    written = pd.read_csv(tmp_path / Ranking.CSV)
    assert written.class_name.map(original).tolist() == ["=1+1", "=1+1"]


def test_the_effects_have_numbers_only(tmp_path: Path) -> None:
    table = pd.DataFrame({"rank": [1], "channel": [0], "score": [-0.25], "zero": [0.5], "zero_signed": [-0.5]})
    Effects(table, pd.DataFrame({"n": [0], "deletion_top": [-1.0]})).save(tmp_path)
    pd.testing.assert_frame_equal(Effects.load(tmp_path).table, table)


def test_the_report_of_a_download_is_safe(tmp_path: Path) -> None:
    entries = [Entry(index, name, (name,)) for index, name in enumerate(NAMES, start=1)]
    outcomes = Outcomes(5, 3)
    for index, name in enumerate(NAMES):
        outcomes.add(index, Outcome(reason=name))
    _write_report(tmp_path / "report.csv", entries, outcomes)
    assert_safe(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="", encoding="utf-8") as file:
        assert [original(row["address"]) for row in csv.DictReader(file)] == NAMES
