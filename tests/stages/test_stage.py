"""The declaration of a stage is checked when its module is imported."""

# The functions without a body or types are examples of wrong declarations.
# mypy: disable-error-code="empty-body,no-untyped-def"

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.artifacts import Activations, Artifact, NetworkRanking, Projections, Ranking, Workspace
from pipeline.progress import Progress
from pipeline.settings import Settings
from pipeline.stages import ORDER, associate, load_stage, load_stages
from pipeline.stages.stage import Stage
from tests.helpers.settings import Compose

if TYPE_CHECKING:
    from pipeline.artifacts import Effects


@dataclass(frozen=True)
class Reads:
    layer: str

    def identity(self) -> dict[str, Any]:
        return {"layer": self.layer}


class OtherReads(Reads):
    pass


def select(settings: Settings) -> Reads:
    return Reads(settings.layer)


def compute(
    reads: Reads, *, activations: Activations, workspace: Workspace, progress: Progress, ranking: Ranking
) -> Projections:
    assert isinstance(workspace, Workspace)
    progress(1, 2)
    return Projections(activations.maps, activations.class_score, ranking.table)  # type: ignore[arg-type]


def no_arguments() -> Projections: ...
def only_keywords(*, activations: Activations) -> Projections: ...
def other_reads(reads: OtherReads, *, activations: Activations) -> Projections: ...
def reads_without_type(reads, *, activations: Activations) -> Projections: ...
def positional(reads: Reads, activations: Activations) -> Projections: ...
def other_name(reads: Reads, *, maps: Activations) -> Projections: ...
def other_artifact(reads: Reads, *, activations: Ranking) -> Projections: ...
def any_artifact(reads: Reads, *, activations: Artifact) -> Projections: ...
def no_artifact(reads: Reads, *, n_channels: int) -> Projections: ...
def optional(reads: Reads, *, activations: Activations | None = None) -> Projections: ...
def without_type(reads: Reads, *, activations) -> Projections: ...
def path_as_workspace(reads: Reads, *, workspace: Path) -> Projections: ...
def other_progress(reads: Reads, *, progress: Callable[[int], None]) -> Projections: ...
def any_keywords(reads: Reads, **artifacts: Activations) -> Projections: ...
def returns_another_artifact(reads: Reads, *, activations: Activations) -> Ranking: ...
def returns_nothing(reads: Reads, *, activations: Activations): ...
def name_for_type_checkers_only(reads: Reads, *, effects: Effects) -> Projections: ...


def stage(run: Callable[..., Any]) -> Stage[Any, Any]:
    return Stage("reduce", 1, "channels", Projections, select, run)


def arguments(got: str) -> str:
    return (
        "all other arguments of run of the stage reduce must be keyword-only, and be artifacts under their own names, "
        f"workspace: Workspace or progress: Progress; got {got}."
    )


def test_a_stage_knows_its_artifacts_by_the_names_of_its_arguments() -> None:
    declared = stage(compute)
    assert declared.upstream == {"activations": Activations, "ranking": Ranking}
    assert declared.provided == {"workspace", "progress"}


def test_a_stage_computes_with_the_settings_that_it_selects(compose: Compose) -> None:
    reported = []
    upstream = {"activations": Activations("maps", "score"), "ranking": Ranking("table")}  # type: ignore[arg-type]
    made = stage(compute).compute(compose(), upstream, Workspace(), lambda *done: reported.append(done))
    assert (made.values, made.explained_variance_ratio, made.dead) == ("maps", "score", "table")
    assert reported == [(1, 2)]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (no_arguments, "run of the stage reduce must have a positional argument for its settings; got none."),
        (only_keywords, "run of the stage reduce must have a positional argument for its settings; got none."),
        (other_reads, "the first argument of run of the stage reduce must have the type that select returns, Reads; "
                      "got OtherReads."),
        (reads_without_type, "the first argument of run of the stage reduce must have the type that select returns, "
                             "Reads; got None."),
        (positional, arguments("activations: 'Activations'")),
        (other_name, arguments("maps: 'Activations'")),
        (other_artifact, arguments("activations: 'Ranking'")),
        (any_artifact, arguments("activations: 'Artifact'")),
        (no_artifact, arguments("n_channels: 'int'")),
        (optional, arguments("activations: 'Activations | None' = None")),
        (without_type, arguments("activations")),
        (path_as_workspace, arguments("workspace: 'Path'")),
        (other_progress, arguments("progress: 'Callable[[int], None]'")),
        (any_keywords, arguments("**artifacts: 'Activations'")),
        (returns_another_artifact, "run of the stage reduce must return Projections; got Ranking."),
        (returns_nothing, "run of the stage reduce must return Projections; got None."),
        (name_for_type_checkers_only, "the annotations of the stage reduce must be defined when it is imported; got "
                                      "name 'Effects' is not defined."),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)  # fmt: skip
def test_a_wrong_declaration_gives_a_type_error(run: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        stage(run)
    assert str(caught.value) == message


def test_the_error_is_raised_when_the_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(inspect.getfile(load_stage("reduce").run)).read_text(encoding="utf-8")
    assert "*, activations: Activations" in text
    (tmp_path / "reduce_maps.py").write_text(text.replace("*, activations: Activations", "*, maps: Activations"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TypeError, match=r"must be keyword-only, .*; got maps: 'Activations'\.$"):
        importlib.import_module("reduce_maps")


@pytest.mark.parametrize("name", ORDER)
def test_each_stage_has_the_name_of_its_module(name: str) -> None:
    assert load_stage(name).name == name
    assert load_stage(name).version >= 1


def test_each_module_of_a_stage_is_in_the_order() -> None:
    modules = {path.stem for path in Path(inspect.getfile(load_stages)).parent.glob("*.py")}
    assert modules - {"__init__", "stage"} == {*ORDER, associate.STAGE.name}  # the last only for several layers


def test_each_artifact_is_computed_by_one_stage_before_the_stages_that_use_it() -> None:
    available: list[type[Artifact]] = []
    for each in (*load_stages(), associate.STAGE):
        assert set(each.upstream.values()) <= set(available), each.name
        assert each.artifact not in available
        available.append(each.artifact)
    # Other test modules define artifacts of their own. The ranking of a network is in the folder of its run only.
    known = {each for each in Artifact.__subclasses__() if each.__module__.startswith("pipeline.")}
    assert set(available) == known - {NetworkRanking}
    names = [artifact.name for artifact in available]
    assert len(set(names)) == len(names)
