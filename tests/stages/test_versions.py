"""A stage whose results change must say so: the store would hand out what the old code made."""

from __future__ import annotations

import json

import pytest

from pipeline.runner import STAGES
from tests.oracles.stage_outputs import PATH, Outputs, differ, stage_outputs


@pytest.fixture(scope="module")
def found() -> Outputs:
    return stage_outputs()


@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_results_change_only_with_the_stages_version(name: str, found: Outputs) -> None:
    recorded = json.loads(PATH.read_text())[name]
    if recorded["version"] != found[name]["version"]:
        pytest.fail(f"{name} has a new version: record its outputs (python -m tests.oracles.stage_outputs)")
    if differ(recorded["outputs"], found[name]["outputs"]):
        pytest.fail(f"{name} makes other results of the same input: raise VERSION in pipeline/stages/{name}.py")


def test_a_change_in_any_number_or_file_is_seen(found: Outputs) -> None:
    for stage in found.values():
        for name, output in stage["outputs"].items():
            changed = {**stage["outputs"], name: "something else"}
            assert differ(stage["outputs"], changed)
            if isinstance(output, dict) and "projections" in output:
                moved = {**output, "projections": [value + 1e-6 for value in output["projections"]]}
                assert differ(stage["outputs"], {**stage["outputs"], name: moved})
