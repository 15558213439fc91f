"""The settings and the modules that are listed for a stage in dvc.yaml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import grimp
import pytest
import yaml

from pipeline import dvc_file
from pipeline.artifacts import Activations, ImageSet, Projections
from pipeline.dvc_file import _Recorder, code_of, dvc_yaml, settings_of
from pipeline.settings import ModelSettings, RegressionTarget, Settings
from pipeline.stages import load_stage, load_stages
from pipeline.stages.reduce import ReduceReads
from pipeline.stages.stage import Stage

Compose = Callable[..., Settings]


@dataclass(frozen=True)
class Reads:
    """What a stage of these tests reads."""

    values: tuple[Any, ...] = ()
    group: Any = None

    def identity(self) -> dict[str, Any]:
        return {}


def first(reads: Any) -> ImageSet:
    """`run` of a stage that builds on no artifact. It is not called in these tests."""
    raise NotImplementedError


def later(reads: Any, *, activations: Activations) -> Projections:
    """`run` of a stage that builds on an artifact. It is not called in these tests."""
    raise NotImplementedError


def listed(name: str, settings: Settings, select: Callable[[Settings], Any]) -> list[str]:
    """The settings that are listed for a stage of this name if it selects this."""

    def selected(settings: Settings) -> Any:
        return select(settings)

    if name == "download":
        return settings_of(Stage(name, 1, "images", ImageSet, selected, first), settings)
    return settings_of(Stage(name, 1, "channels", Projections, selected, later), settings)


def test_a_setting_that_a_stage_begins_to_read_is_listed_for_it(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = compose()
    before = yaml.safe_load(dvc_yaml(settings))["stages"]

    def select(settings: Settings) -> ReduceReads:
        assert settings.visualize.dpi > 0  # read, although the stage does not keep it
        return ReduceReads(settings.n_components, settings.reduce.memory_mib + settings.seed)

    def stages() -> tuple[Stage[Any, Any], ...]:
        return tuple(replace(each, select=select) if each.name == "reduce" else each for each in load_stages())

    monkeypatch.setattr(dvc_file, "load_stages", stages)
    after = yaml.safe_load(dvc_yaml(settings))["stages"]
    assert before["reduce"]["params"] == ["n_components"]
    assert after["reduce"].pop("params") == ["n_components", "seed", "visualize.dpi"]
    del before["reduce"]["params"]
    assert after == before


def test_settings_are_listed_in_the_order_of_the_settings_classes(compose: Compose) -> None:
    names = listed("reduce", compose(), lambda settings: Reads((settings.seed, settings.rank.by, settings.n_images)))
    assert names == ["n_images", "seed", "rank.by"]


def test_a_group_that_is_kept_as_a_whole_is_listed_as_a_whole(compose: Compose) -> None:
    names = listed("reduce", compose(), lambda settings: Reads((settings.ablate.mode,), settings.ablate))
    assert names == ["ablate"]


def test_a_group_whose_settings_depend_on_a_choice_is_listed_as_a_whole(compose: Compose) -> None:
    assert listed("reduce", compose(), lambda settings: Reads((settings.data.images_from,))) == ["data"]


def test_settings_that_a_property_reads_are_listed(compose: Compose) -> None:
    names = listed("reduce", compose(), lambda settings: Reads((settings.target_label,)))
    assert names == ["class_name", "target_class"]


def test_the_class_is_listed_by_name_and_index_and_with_the_class_names_for_the_first_stage(compose: Compose) -> None:
    def select(settings: Settings) -> Reads:
        return Reads((settings.class_name,))

    assert listed("reduce", compose(), select) == ["class_name", "target_class"]
    assert listed("download", compose(), select) == ["class_name", "target_class", *dvc_file.CLASS_NAMES]


def test_settings_that_do_not_change_a_result_are_not_listed(compose: Compose) -> None:
    def select(settings: Settings) -> Reads:
        return Reads((settings.paths.outputs, settings.tracking.uri, settings.reduce.memory_mib))

    assert listed("reduce", compose(), select) == []


def test_a_recorder_behaves_like_the_settings_and_records_what_is_read(compose: Compose) -> None:
    settings, found = compose(), set[str]()
    recorder: Any = _Recorder(settings, "", found)
    assert isinstance(recorder, Settings)
    assert isinstance(recorder.model, ModelSettings)
    assert not isinstance(recorder.target, RegressionTarget)
    assert recorder.model.name == settings.model.name
    assert recorder.target_label == settings.target_label
    assert found == {"model.name", "class_name"}
    match recorder.model:
        case ModelSettings(batch_size=batch_size):
            assert batch_size == settings.model.batch_size
    assert "model.batch_size" in found
    with pytest.raises(AttributeError):
        _ = recorder.nonsense  # type: ignore[attr-defined]


def test_the_last_stage_also_depends_on_the_code_that_publishes_and_logs_the_run() -> None:
    graph = grimp.build_graph("pipeline", exclude_type_checking_imports=True, cache_dir=None)
    stage = load_stage("visualize")
    additional = set(code_of(stage, graph, is_last=True)) - set(code_of(stage, graph))
    assert {"pipeline/tracking", "pipeline/run_folder.py", "pipeline/environment.py"} <= additional
