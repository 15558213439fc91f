"""The helpers of the tests: the tiers, the benchmark data, and what happens when a tool is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.runner import run as run_pipeline
from tests.helpers import make_cifar10_folder
from tests.helpers.data import benchmark_data
from tests.helpers.project import tool_is_missing
from tests.helpers.tiers import FIXTURES, add_markers, calls_something_slow


def starts_a_process() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def runs_the_pipeline_in_a_nested_function() -> Callable[[Any], Any]:
    return lambda settings: run_pipeline(settings, Path("run"))


def calls_itself_and_another(n: int) -> None:
    calls_itself_and_another(n - 1) if n else starts_a_process()


def is_quick() -> list[str]:
    return [str(path) for path in Path().parents]


@pytest.mark.parametrize(
    ("function", "is_slow"),
    [
        (starts_a_process, True),
        (runs_the_pipeline_in_a_nested_function, True),
        (calls_itself_and_another, True),
        (is_quick, False),
        (np.zeros, False),
    ],
)
def test_a_function_that_runs_the_pipeline_or_starts_a_process_is_slow(
    function: Callable[..., Any], is_slow: bool
) -> None:
    assert calls_something_slow(function) == is_slow


def test_every_test_has_a_marker_and_a_unit_test_has_no_other(request: pytest.FixtureRequest) -> None:
    ours = {"unit", "slow", "e2e", *FIXTURES.values()}
    for item in request.session.items:
        names = ours & {marker.name for marker in item.iter_markers()}
        assert names, item.nodeid
        assert names == {"unit"} or "unit" not in names, item.nodeid


def test_a_test_that_needs_photographs_is_marked(request: pytest.FixtureRequest) -> None:
    function = pytest.Function.from_parent(request.node.parent, name="needs_photographs", callobj=needs_photographs)
    add_markers(function)
    assert {marker.name for marker in function.iter_markers()} == {"data"}


def needs_photographs(photographs: Path) -> None:
    """A test that `test_a_test_that_needs_photographs_is_marked` collects."""


def test_missing_benchmark_data_skip_the_test_and_say_where_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCACE_TEST_DATA", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.skip.Exception) as skipped:
        benchmark_data("cifar10")
    assert str(skipped.value) == (
        f"needs benchmark data: {tmp_path / 'cifar10'} does not exist; set PCACE_TEST_DATA to the folder that contains "
        "cifar10 (CONTRIBUTING.md, section Tests, says where to get it)"
    )
    (tmp_path / "cifar10").mkdir()
    assert benchmark_data("cifar10") == tmp_path / "cifar10"


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_tool_is_a_failure_in_ci_only(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="Chromium"):
        tool_is_missing("Chromium", "apt-get install chromium")


def test_photographs_are_written_by_class_in_the_order_of_the_data_set(tmp_path: Path) -> None:
    names = ["airplane", "cat", "dog", "ship"]
    images = [(Image.new("RGB", (32, 32), (20 * index, 0, 0)), index % 4) for index in range(12)]
    make_cifar10_folder.write(images, names, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat", "dog", "ship"]
    for label, name in enumerate(names[1:], start=1):
        paths = sorted((tmp_path / name).iterdir())
        assert [path.name for path in paths] == ["0000.jpg", "0001.jpg", "0002.jpg"]
        for path, index in zip(paths, range(label, 12, 4), strict=True):
            with Image.open(path) as image:
                red = np.asarray(image)[..., 0]
            np.testing.assert_allclose(red, 20 * index, atol=3)
    assert make_cifar10_folder.differing(tmp_path) == ["cat", "dog", "ship"]


def test_the_photographs_are_those_with_which_the_recorded_numbers_were_measured(photographs: Path) -> None:
    assert make_cifar10_folder.differing(photographs) == []
