"""Stages that are computed in parts, without Ray: the results have the bytes of a stage that is computed at once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.artifacts import Activations, ImageSet, Workspace
from pipeline.config import compose_settings
from pipeline.engine.division import Division
from pipeline.engine.execution import DIVIDED, compute_divided
from pipeline.engine.maps import divided_maps
from pipeline.engine.task import Finished, Task, perform
from pipeline.observer import Artifacts
from pipeline.resolve import resolve
from pipeline.runner import STAGES, Execution, plan, store_of
from pipeline.settings import RayEngine, Settings
from pipeline.stages import load_stage
from pipeline.store import Store, artifact_key
from pipeline.store.housekeeping import collect
from pipeline.store.locks import exclusive
from pipeline.store.parts import finished_parts, parts_folder, write_part
from tests.helpers.settings import SMALL
from tests.helpers.stages import contents

pytestmark = pytest.mark.slow

SMALL_PARTS = ("engine=ray", "engine.images_per_task=20", "engine.channels_per_task=16")
# Little evidence; the layer has 32 channels, of which a part has 16.
ACE = (
    "n_components=2", "score.permutations=10", "score.bootstrap=10", "score.folds=2", "ablate.n_draws=2",
    "model.batch_size=16",
)  # fmt: skip


class InThisProcess:
    """An executor that performs the tasks one after the other, and fails after `n_tasks`."""

    def __init__(self, n_tasks: int = 10**9) -> None:
        self.labels: list[str] = []
        self._n_tasks = n_tasks

    def run(self, tasks: list[Task], finished: Finished) -> None:
        for task in tasks:
            if len(self.labels) == self._n_tasks:
                raise KeyboardInterrupt
            self.labels.append(task.label)
            error = perform(task).error
            if error is not None:
                raise error
            finished(task)


def ignore(done: int, total: int) -> None:
    """Accept the progress."""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of all tests of this file, which have most artifacts in common."""
    return tmp_path_factory.mktemp("outputs")


def settings_in(outputs: Path, *overrides: str) -> Settings:
    small = [text for text in SMALL if not text.startswith(("layer", "n_images", "score"))]
    return resolve(compose_settings([f"paths.outputs={outputs}", *small, "layer=conv2", "n_images=50", *overrides]))


def at_once(settings: Settings) -> Artifacts:
    """Return the artifacts of all stages except for the figures, computed by this process."""
    with store_of(settings) as store:
        execution = Execution(settings, store)
        for stage in STAGES[:-1]:
            execution.obtain(stage)
    return execution.artifacts


def in_parts(stage: str, settings: Settings, made: Artifacts, folder: Path, executor: InThisProcess) -> Path:
    """Compute a stage in parts from the artifacts of a run; return the folder of the artifact."""
    assert isinstance(settings.engine, RayEngine)
    upstream = load_stage(stage).upstream
    temporary = folder / "tmp" / stage
    temporary.mkdir(parents=True, exist_ok=True)
    folders = {name: made.folders[kind] for name, kind in upstream.items()}
    division = Division(stage, settings, settings.engine, folders, temporary, executor, ignore)
    artifacts = {name: made[kind] for name, kind in upstream.items()}
    compute_divided(division, stage, artifacts, Workspace(temporary), ignore).save(temporary)
    return temporary


@pytest.mark.parametrize(
    "overrides",
    [
        ACE,
        (*ACE, "n_components=auto"),
        (*ACE, "n_components=.5", "score.smoother=supersmoother"),
        ("model.batch_size=16", "ablate.n_draws=2", "score=gradient_x_activation", "score.bootstrap=10"),
        (*ACE, "activate.dtype=float16"),
        ("score=pearson", "score.bootstrap=10", "ablate.when=never"),
    ],
    ids=["splines", "auto", "supersmoother", "gradient_x_activation", "float16", "pearson"],
)
def test_parts_have_the_bytes_of_the_whole(overrides: tuple[str, ...], outputs: Path, tmp_path: Path) -> None:
    whole, settings = at_once(settings_in(outputs, *overrides)), settings_in(outputs, *overrides, *SMALL_PARTS)
    executor = InThisProcess()
    for stage in DIVIDED:
        made = in_parts(stage, settings, whole, tmp_path, executor)
        assert contents(made) == contents(whole.folders[load_stage(stage).artifact])
    assert (
        executor.labels[:5]
        == [
            "images 1 to 12 of the stage activate",
            "images 13 to 25 of the stage activate",
            "images 26 to 38 of the stage activate",
            "images 39 to 50 of the stage activate",
            "channels 1 to 16 of the stage reduce",
        ]
        or "score=pearson" in overrides
    )


def test_several_layers_have_the_bytes_of_single_ones(outputs: Path, tmp_path: Path) -> None:
    settings, layers = settings_in(outputs, *ACE, *SMALL_PARTS), ["conv1", "conv2"]
    assert isinstance(settings.engine, RayEngine)
    single = {layer: at_once(settings_in(outputs, *ACE, f"layer={layer}")) for layer in layers}
    images = single["conv1"].folders[ImageSet]
    division = Division("activate", settings, settings.engine, {"images": images}, tmp_path, InThisProcess(), ignore)
    made = divided_maps(division, layers, {layer: Workspace() for layer in layers}, ImageSet.load(images))
    for layer in layers:
        maps = made[layer]
        assert isinstance(maps, Activations)
        folder = tmp_path / layer
        folder.mkdir()
        maps.save(folder)
        assert contents(folder) == contents(single[layer].folders[Activations])


def test_a_run_that_ends_early_leaves_its_finished_parts_to_the_next_one(outputs: Path, tmp_path: Path) -> None:
    whole, settings = at_once(settings_in(outputs, *ACE)), settings_in(outputs, *ACE, *SMALL_PARTS)
    first, second = InThisProcess(3), InThisProcess()
    with pytest.raises(KeyboardInterrupt):
        in_parts("activate", settings, whole, tmp_path, first)
    unfinished = parts_folder(tmp_path / "tmp" / "activate") / "maps.x.tmp"
    unfinished.mkdir()
    made = in_parts("activate", settings, whole, tmp_path, second)
    assert second.labels == ["images 39 to 50 of the stage activate"]
    assert not unfinished.exists()
    assert contents(made) == contents(whole.folders[load_stage("activate").artifact])


def test_parts_of_another_version_of_the_code_are_computed_again(outputs: Path, tmp_path: Path) -> None:
    whole, settings = at_once(settings_in(outputs, *ACE)), settings_in(outputs, *ACE, *SMALL_PARTS)
    first, second = InThisProcess(), InThisProcess()
    in_parts("reduce", settings, whole, tmp_path, first)
    (parts_folder(tmp_path / "tmp" / "reduce") / "code.txt").write_text("another version")
    in_parts("reduce", settings, whole, tmp_path, second)
    assert first.labels == second.labels == [f"channels {span} of the stage reduce" for span in ("1 to 16", "17 to 32")]


def test_the_engine_is_not_part_of_a_key(outputs: Path) -> None:
    local, ray = settings_in(outputs, *ACE), settings_in(outputs, *ACE, *SMALL_PARTS, "engine.num_cpus=3")
    assert {name: key.digest for name, key in plan(local).items()} == {
        name: key.digest for name, key in plan(ray).items()
    }


def test_a_part_that_another_process_has_written_is_kept(tmp_path: Path) -> None:
    write_part(tmp_path / "maps-0-9", lambda folder: (folder / "a.txt").write_text("first"))
    write_part(tmp_path / "maps-0-9", lambda folder: (folder / "a.txt").write_text("second"))
    assert (tmp_path / "maps-0-9" / "a.txt").read_text() == "first"
    assert finished_parts(tmp_path) == {"maps-0-9"}


def test_a_part_is_not_written_after_its_artifact_was_completed(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    shutil.rmtree(tmp_path / "parts")
    with pytest.raises(FileNotFoundError):
        write_part(tmp_path / "parts" / "maps-0-9", lambda folder: None)


def test_parts_are_removed_with_their_artifact_and_by_gc_unless_they_are_in_use(tmp_path: Path) -> None:
    store, key = Store(tmp_path), artifact_key("reduce", 1, {}, {})
    parts = parts_folder(tmp_path / "tmp" / str(key).replace("/", "-"))

    def fill(folder: Path) -> None:
        parts_folder(folder).mkdir()
        assert parts_folder(folder) == parts

    def fill_all(folders: Mapping[str, Path]) -> list[str]:
        fill(folders[str(key)])
        return []

    with store:
        assert store.obtain_all([key], fill_all) == {}
        assert not parts.exists()
        store.obtain(key, fill)
    assert not parts.exists()
    parts.mkdir()
    with exclusive(tmp_path / "locks" / str(key).replace("/", "-"), "", lambda text: None):
        collect(store, keep=10**9)
        assert parts.exists()
    collect(store, keep=10**9)
    assert not parts.exists()
