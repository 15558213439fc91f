"""Executions over a store that has all artifacts, or lacks some of them, and what their observers see."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from pipeline.artifacts import Activations, Artifact, Effects, Figures, ImageSet, Ranking
from pipeline.errors import StorageError
from pipeline.observer import Artifacts, Observer, RunResult, StageReport
from pipeline.records import Record, RecordingObserver
from pipeline.resolve import resolve
from pipeline.runner import STAGES, Execution, plan, run, store_of
from pipeline.settings import Settings
from pipeline.stages import load_stage
from pipeline.stages.stage import Stage
from pipeline.store.locks import unused

NAMES = [stage.name for stage in STAGES]
ARTIFACTS = [stage.artifact for stage in STAGES]
Compose = Callable[..., Settings]


class Number(Artifact):
    """A number in a file, which counts how often it is loaded."""

    name = "number"
    n_loaded = 0

    def __init__(self, value: int) -> None:
        self.value = value

    def save(self, folder: Path) -> Self:
        (folder / "number.txt").write_text(str(self.value))
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        cls.n_loaded += 1
        return cls(int((folder / "number.txt").read_text()))

    @property
    def description(self) -> str:
        return str(self.value)


class StageNames(Observer):
    """An observer that overrides one method only."""

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.cached: list[str] = []

    def stage_finished(self, report: StageReport) -> None:
        (self.cached if report.is_cached else self.computed).append(report.stage.name)


class Calls(Observer):
    """An observer that lists the calls that it gets."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.progress: list[tuple[int, int]] = []

    def started(self, settings: Settings) -> None:
        self.names.append("started")

    def resolved(self, settings: Settings) -> None:
        self.names.append("resolved")

    def stage_started(self, stage: Stage[Any, Any]) -> Callable[[int, int], None]:
        self.names.append(f"{stage.name} started")
        return lambda done, total: self.progress.append((done, total))

    def stage_finished(self, report: StageReport) -> None:
        self.names.append(f"{report.stage.name} finished")

    def finished(self, result: RunResult) -> None:
        self.names.append("finished")

    def failed(self, error: BaseException) -> None:
        self.names.append(f"failed: {error}")


class Failing(Observer):
    """An observer that cannot handle the result."""

    def finished(self, result: RunResult) -> None:
        raise StorageError("the disk must have room; got a full disk.")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs folder that the first test fills."""
    return tmp_path_factory.mktemp("complete")


@pytest.fixture
def settings(complete: Path, compose: Compose) -> Settings:
    """Resolved small settings, and a store with all their artifacts that the test may change."""
    if not (complete / "store").exists():
        run(compose(f"paths.outputs={complete}"), complete / "run")
    found = resolve(compose())
    shutil.copytree(complete / "store", Path(found.paths.outputs) / "store")
    return found


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[type[Artifact]]:
    """The types of the artifacts that are loaded during the test, in order."""
    found: list[type[Artifact]] = []
    for kind in ARTIFACTS:

        def load(folder: Path, kind: type[Artifact] = kind, original: Any = kind.load) -> Artifact:
            found.append(kind)
            artifact: Artifact = original(folder)
            return artifact

        monkeypatch.setattr(kind, "load", load)
    return found


def remove(settings: Settings, *names: str) -> None:
    """Remove the artifacts of these stages from the store."""
    for name in names:
        shutil.rmtree(Path(settings.paths.outputs) / "store" / name)


def test_an_artifact_is_loaded_once_and_only_when_it_is_requested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Number, "n_loaded", 0)
    Number(7).save(tmp_path)
    artifacts = Artifacts()
    assert Number not in artifacts
    with pytest.raises(KeyError):
        artifacts[Number]
    artifacts.add(Number, tmp_path)
    assert (Number in artifacts, Number.n_loaded) == (True, 0)
    assert artifacts[Number] is artifacts[Number]
    assert (artifacts[Number].value, Number.n_loaded) == (7, 1)
    assert artifacts.folders == {Number: tmp_path}


def test_a_stage_whose_artifact_is_stored_loads_no_artifact_it_builds_on(
    settings: Settings, loaded: list[type[Artifact]]
) -> None:
    with store_of(settings) as store:
        report = Execution(settings, store).obtain(STAGES[-1])
        assert report.is_cached
        assert loaded == []
        assert isinstance(report.artifact, Figures)
        assert list(report.artifacts.folders) == loaded == [Figures]


def test_a_cached_run_loads_only_what_its_folder_needs(
    settings: Settings, tmp_path: Path, loaded: list[type[Artifact]]
) -> None:
    run(settings, tmp_path / "run")
    assert set(loaded) == {Effects, Figures, ImageSet}
    assert len(loaded) == 3


def test_artifacts_that_a_missing_one_builds_on_are_obtained_first(settings: Settings) -> None:
    remove(settings, "score", "rank")
    names = StageNames()
    with store_of(settings) as store:
        execution = Execution(settings, store, [names])
        assert len(execution.obtain(load_stage("rank")).artifacts[Ranking].table) == 16
    assert names.computed == ["score", "rank"]
    assert sorted(names.cached) == ["activate", "download", "reduce"]  # each of them once


def test_a_missing_artifact_is_not_computed_if_nothing_that_is_missing_needs_it(settings: Settings) -> None:
    remove(settings, "reduce", "score")
    names = StageNames()
    with store_of(settings) as store:
        Execution(settings, store, [names]).obtain(load_stage("rank"))
    assert (names.computed, names.cached) == ([], ["rank"])


def test_the_network_is_checked_only_if_its_activations_are_not_stored(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Settings] = []
    monkeypatch.setattr("pipeline.runner.check_network", checked.append)
    with store_of(settings) as store:
        Execution(settings, store).check()
    assert checked == []
    remove(settings, "activate")
    with store_of(settings) as store:
        Execution(settings, store).check()
    assert checked == [settings]


def test_the_keys_of_an_execution_are_those_of_the_plan(settings: Settings) -> None:
    keys = plan(settings)
    assert list(keys) == NAMES
    with store_of(settings) as store:
        assert Execution(settings, store).keys == keys


def test_a_subclass_of_observer_may_override_one_method(settings: Settings, tmp_path: Path) -> None:
    names = StageNames()
    run(settings, tmp_path / "run", [names, Observer()])
    assert (names.computed, names.cached) == ([], NAMES)


def test_observers_are_called_in_the_order_of_the_run(settings: Settings, tmp_path: Path) -> None:
    remove(settings, "reduce")
    first, second = Calls(), Calls()
    run(settings, tmp_path / "run", [first, Observer(), second])
    stages = [f"{name} finished" for name in NAMES]
    stages.insert(NAMES.index("reduce"), "reduce started")
    assert first.names == second.names == ["started", "resolved", *stages, "finished"]
    assert first.progress == second.progress
    assert first.progress[-1] == (16, 16)


def test_all_observers_are_informed_if_one_of_them_fails(settings: Settings, tmp_path: Path) -> None:
    calls = Calls()
    with pytest.raises(StorageError, match=r"^the disk must have room; got a full disk\.$"):
        run(settings, tmp_path / "run", [calls, Failing()])
    assert calls.names[-2:] == ["finished", "failed: the disk must have room; got a full disk."]


def test_artifacts_are_protected_while_observers_handle_the_result(settings: Settings, tmp_path: Path) -> None:
    class Protected(Observer):
        """An observer that tries to get the artifacts for itself, as `pcace store rm` does."""

        is_unused: list[bool]

        def finished(self, result: RunResult) -> None:
            self.is_unused = []
            for folder in result.artifacts.folders.values():
                with unused(folder) as is_unused:
                    self.is_unused.append(is_unused)

    observer = Protected()
    result = run(settings, tmp_path / "run", [observer])
    assert observer.is_unused == [False] * len(NAMES)
    with unused(result.artifacts.folders[Activations]) as is_unused:
        assert is_unused


def test_a_job_is_recorded_and_only_the_artifacts_of_its_summary_are_loaded(
    settings: Settings, loaded: list[type[Artifact]]
) -> None:
    record = Record(overrides=["layer=conv1"])
    observer = RecordingObserver(record)
    with store_of(settings) as store:
        execution = Execution(settings, store, [observer])
        for stage in STAGES:
            execution.obtain(stage)
    assert loaded == [ImageSet, Ranking, Effects]  # the images, because there may be a note on copies among them
    assert list(record.seconds) == list(record.keys) == NAMES
    assert all(record.from_store.values())
    assert record.reliability == execution.artifacts[Ranking].trust.reliability
    assert record.faithfulness == execution.artifacts[Effects].faithfulness.spearman


def test_a_job_whose_result_an_observer_cannot_handle_is_recorded_as_failed(settings: Settings, tmp_path: Path) -> None:
    record = Record()
    with pytest.raises(StorageError):
        run(settings, tmp_path / "run", [RecordingObserver(record), Failing()])
    assert (record.status, record.error) == ("failed", "the disk must have room; got a full disk.")
    record.save(tmp_path)
    assert Record.load(tmp_path) == record
    assert Record.load(tmp_path / "elsewhere") is None
