"""A stage whose results change must get a new version, or the store would return the results of the old code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.runner import STAGES
from tests.oracles.stage_outputs import PATH, Outputs, described, described_outputs, differ, files, run_stages

NAMES = [stage.name for stage in STAGES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that each stage computes from the fixed input."""
    folder = tmp_path_factory.mktemp("stages")
    run_stages(folder)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Outputs:
    return described_outputs(folder)


@pytest.mark.parametrize("name", NAMES)
def test_the_results_of_a_stage_change_only_with_its_version(name: str, found: Outputs) -> None:
    recorded = json.loads(PATH.read_text()).get(name)
    if recorded is None:
        pytest.fail(f"{name} has no recorded outputs: record them (python -m tests.oracles.stage_outputs)")
    if recorded["version"] != found[name]["version"]:
        pytest.fail(f"{name} has a new version: record its outputs (python -m tests.oracles.stage_outputs)")
    if differ(recorded["outputs"], found[name]["outputs"]):
        pytest.fail(f"{name} has other results for the same input: raise the version in pipeline/stages/{name}.py")


def changed(value: Any) -> Any:
    """Return another value of the same type: a number that differs by a millionth, or a text with another letter."""
    if isinstance(value, bool | np.bool_):
        return not value
    if isinstance(value, int | np.integer):
        return value + 1
    if isinstance(value, float | np.floating):
        return 0.5 if not np.isfinite(value) else value + 1e-6 * max(1.0, abs(float(value)))
    return f"{value}x"


def change_array(path: Path, draw: np.random.Generator) -> None:
    array = np.load(path)
    place = int(draw.integers(array.size))
    array.flat[place] = changed(array.flat[place])
    np.save(path, array)


def change_table(path: Path, draw: np.random.Generator) -> None:
    frame = pd.read_parquet(path)
    row, column = int(draw.integers(len(frame))), str(draw.choice(frame.columns))
    cells = frame[column].tolist()
    cells[row] = changed(cells[row])
    frame[column] = pd.Series(cells, dtype=frame[column].dtype)
    frame.to_parquet(path, index=False)


def change_csv(path: Path, draw: np.random.Generator) -> None:
    lines = path.read_text().splitlines()
    row = int(draw.integers(len(lines)))
    cells = lines[row].split(",")
    place = int(draw.integers(len(cells)))
    try:
        cells[place] = repr(changed(float(cells[place]))) if "." in cells[place] else str(int(cells[place]) + 1)
    except ValueError:
        cells[place] += "x"
    lines[row] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to each value in nested lists and dictionaries."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [place for name, each in items for place in leaves(each, (*path, name))]
    return [path]


def change_json(path: Path, draw: np.random.Generator) -> None:
    found = json.loads(path.read_text())
    places = [place for place in leaves(found) if place[-1] not in ("src", "bytes")]
    *parents, last = places[int(draw.integers(len(places)))]
    parent = found
    for name in parents:
        parent = parent[name]
    parent[last] = changed(parent[last])
    path.write_text(json.dumps(found))


def change_text(path: Path, draw: np.random.Generator) -> None:
    data = bytearray(path.read_bytes() or b" ")
    data[int(draw.integers(len(data)))] ^= 1
    path.write_bytes(data)


def change_picture(path: Path, draw: np.random.Generator) -> None:
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    height, width = pixels.shape[:2]
    top, left = int(draw.integers(height // 2)), int(draw.integers(width // 2))
    pixels[top : top + height // 2, left : left + width // 2] ^= 255
    Image.fromarray(pixels).save(path)


CHANGES: dict[str, Callable[[Path, np.random.Generator], None]] = {
    ".npy": change_array, ".parquet": change_table, ".json": change_json, ".csv": change_csv, ".txt": change_text,
    ".bmp": change_text, ".png": change_picture,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_change_of_one_value_in_any_file_is_detected(name: str, folder: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    n_changed = 0
    for path in files(folder / name):
        for _ in range(5):
            copy = Path(shutil.copy(path, tmp_path))
            CHANGES[path.suffix](copy, draw)
            assert differ(described(path), described(copy)), path
            n_changed += 1
    assert n_changed >= 5


def test_the_change_of_a_picture_or_bytes_in_a_json_file_is_detected(folder: Path, tmp_path: Path) -> None:
    gallery = folder / "visualize" / "gallery.json"
    found = json.loads(gallery.read_text())
    for places in (("images", 0, "src"), ("maps", "src"), ("transforms", "bytes")):
        *parents, last = places
        other = json.loads(gallery.read_text())
        parent = other
        for name in parents:
            parent = parent[name]
        parent[last] = found["images"][1]["src"] if last == "src" else "AAAA" + parent[last][4:]
        (tmp_path / "gallery.json").write_text(json.dumps(other))
        assert differ(described(gallery), described(tmp_path / "gallery.json")), places


def test_a_missing_or_additional_file_is_detected(found: Outputs) -> None:
    for stage in found.values():
        outputs = stage["outputs"]
        assert differ(outputs, {**outputs, "another.npy": "x"})
        for name in outputs:
            assert differ(outputs, {other: value for other, value in outputs.items() if other != name})
