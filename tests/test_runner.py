from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from pipeline.artifacts import ChannelScores, Projections
from pipeline.artifacts.base import own_files
from pipeline.config import compose_settings
from pipeline.errors import InputError, NetworkError, PipelineError
from pipeline.observer import Observer, RunResult, StageReport
from pipeline.resolve import resolve
from pipeline.runner import STAGES, plan, run
from pipeline.settings import Settings
from pipeline.stages.stage import Stage
from pipeline.store import Store
from pipeline.store.housekeeping import entries
from tests.helpers.settings import SMALL, Compose

NAMES = [stage.name for stage in STAGES]


class Recorder(Observer):
    """Observer that stores the arguments of all calls."""

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.cached: list[str] = []
        self.progress: dict[str, tuple[int, int]] = {}
        self.notes: list[str] = []
        self.ended: Any = None

    def started(self, settings: Settings) -> None:
        self.given = settings

    def resolved(self, settings: Settings) -> None:
        self.resolved_settings = settings

    def noted(self, text: str) -> None:
        self.notes.append(text)

    def stage_started(self, stage: Stage[Any, Any]) -> Callable[[int, int], None]:
        return lambda done, total: self.progress.__setitem__(stage.name, (done, total))

    def stage_finished(self, report: StageReport) -> None:
        (self.cached if report.is_cached else self.computed).append(report.stage.name)

    def finished(self, result: RunResult) -> None:
        self.ended = result

    def failed(self, error: BaseException) -> None:
        self.ended = error


def recorded_run(settings: Settings, folder: Path) -> Recorder:
    recorder = Recorder()
    run(settings, folder, [recorder])
    return recorder


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs folder of a complete run of the small settings, which is also the run's folder."""
    outputs = tmp_path_factory.mktemp("complete")
    run(compose_settings([f"paths.outputs={outputs}", *SMALL]), outputs)
    return outputs


def test_a_run_computes_all_stages_and_its_repetition_none(compose: Compose, tmp_path: Path) -> None:
    first = recorded_run(compose(), tmp_path / "first")
    assert first.computed == NAMES
    assert first.progress == {
        "download": (20, 20), "activate": (20, 20), "reduce": (16, 16), "score": (16, 16),
        "ablate": (7780, 7780), "evaluate": (680, 680), "visualize": (10, 10),
    }  # fmt: skip
    again = recorded_run(compose(), tmp_path / "again")
    assert (again.computed, again.cached) == ([], NAMES)
    one, two = ((tmp_path / name / "ranking.csv").read_bytes() for name in ("first", "again"))
    assert one == two


def test_the_number_of_threads_of_the_libraries_changes_no_bit(
    compose: Compose, tmp_path: Path, complete: Path
) -> None:
    other = 1 if any(pool["num_threads"] > 1 for pool in threadpool_info()) else 2
    with threadpool_limits(other):
        assert {pool["num_threads"] for pool in threadpool_info()} == {other}
        assert recorded_run(compose(), tmp_path / "run").computed == NAMES

    def results(outputs: Path) -> dict[str, bytes]:
        folders = (outputs / "store").glob("*/*")
        return {
            f"{folder.parent.name}/{name}": (folder / name).read_bytes()
            for folder in folders
            if folder.parent.name in NAMES
            for name in own_files(folder)
        }

    assert results(tmp_path / "outputs") == results(complete)


def test_the_run_folder_has_the_results_and_the_settings(compose: Compose, tmp_path: Path) -> None:
    recorder = recorded_run(compose(), tmp_path / "run")
    files = sorted(path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.*"))
    cards = [name for name in files if name.startswith("figures/channels/rank_0")]
    assert len(cards) == 12
    assert [name for name in files if name not in cards] == [
        "artifacts.json", "effects.csv", "figures/activation_maps.png", "figures/activation_overlays.png",
        "figures/association_effect.png", "figures/cam.png", "figures/channel_weighted.png", "figures/faithfulness.png",
        "figures/overlays/00000_predicted.png", "figures/overlays/00000_target.png",
        "figures/ranking_curve.png", "figures/reliability.png", "figures/smoothness.png", "figures/transforms.png",
        "ranking.csv", "ranking.parquet", "settings.json", "trust.json",
    ]  # fmt: skip
    table = pd.read_csv(tmp_path / "run" / "ranking.csv", dtype={"class_name": str})
    pd.testing.assert_frame_equal(table, recorder.ended.ranking.table)
    assert sorted(table.channel) == list(range(16))
    assert table.score.is_monotonic_decreasing
    assert table.score.between(0, 1).all()
    written = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (written["layer"], written["target_class"]) == ("conv1", 8)


@pytest.mark.usefixtures("blank_figures")
def test_only_stages_that_depend_on_a_changed_setting_are_computed_again(compose: Compose, tmp_path: Path) -> None:
    recorded_run(compose(), tmp_path / "0")
    assert recorded_run(compose("n_components=2"), tmp_path / "1").computed == [
        "reduce",
        "score",
        "rank",
        "evaluate",
        "visualize",
    ]
    assert recorded_run(compose("layer=conv2"), tmp_path / "2").cached == ["download"]
    assert recorded_run(compose("score.statistic=first"), tmp_path / "3").computed == ["rank", "evaluate", "visualize"]
    assert recorded_run(compose("score=pearson"), tmp_path / "7").computed == ["score", "rank", "evaluate", "visualize"]
    assert recorded_run(compose("ablate.mode=mean"), tmp_path / "6").computed == ["ablate", "evaluate", "visualize"]
    assert recorded_run(compose("visualize.dpi=60"), tmp_path / "4").computed == ["visualize"]
    assert recorded_run(compose("score.n_jobs=2", "target_class=8"), tmp_path / "5").computed == []


@pytest.mark.usefixtures("blank_figures")
def test_an_artifact_without_one_of_its_files_is_computed_again(compose: Compose, tmp_path: Path) -> None:
    first = recorded_run(compose(), tmp_path / "first")
    (first.ended.artifacts.folders[Projections] / "values.npy").unlink()
    again = recorded_run(compose(), tmp_path / "again")
    assert again.computed == ["reduce"]
    assert again.notes == [
        f"{first.ended.reports[2].key} is damaged: values.npy cannot be read (No such file or directory). "
        "It is computed again."
    ]


@pytest.mark.parametrize("stage", NAMES)
def test_a_flipped_bit_in_any_file_of_any_artifact_is_detected(
    compose: Compose, tmp_path: Path, stage: str, complete: Path
) -> None:
    shutil.copytree(complete, tmp_path / "outputs")
    (folder,) = (tmp_path / "outputs" / "store" / stage).iterdir()
    (key,) = (key for name, key in plan(resolve(compose())).items() if name == stage)
    draw = random.Random(stage)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size):
        data = path.read_bytes()
        position = draw.randrange(len(data))
        path.write_bytes(data[:position] + bytes([data[position] ^ 1 << draw.randrange(8)]) + data[position + 1 :])
        assert Store(tmp_path / "outputs" / "store").find(key) is None, (path, position)
        (entry,) = (entry for entry in entries(Store(tmp_path / "outputs" / "store"), verify=True) if entry.damage)
        assert entry.name == str(key)
        path.write_bytes(data)
    path.write_bytes(b"")
    recorder = recorded_run(compose(), tmp_path / "run")
    assert recorder.computed == [stage]
    assert (tmp_path / "run" / "ranking.csv").read_bytes() == (complete / "ranking.csv").read_bytes()


def test_a_run_that_is_refused_leaves_no_files(compose: Compose, tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(NetworkError):
        run(compose("layer=conv9"), tmp_path / "run", [recorder])
    assert isinstance(recorder.ended, NetworkError)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("blank_figures")
def test_finished_stages_stay_in_the_store_if_a_later_one_fails(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ChannelScores, folder: Path) -> None:
        (folder / "half").write_text("written")
        raise InputError("scores must be; got none.")

    with monkeypatch.context() as patched:
        patched.setattr(ChannelScores, "save", fail)
        with pytest.raises(PipelineError, match=r"^scores must be; got none\.$"):
            recorded_run(compose(), tmp_path / "run")
    assert not list(tmp_path.rglob("half"))
    assert not (tmp_path / "run").exists()
    recorder = recorded_run(compose(), tmp_path / "run")
    assert recorder.cached == ["download", "activate", "reduce"]


@pytest.mark.usefixtures("blank_figures")
def test_dead_channels_score_zero_and_come_last(compose: Compose, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from pipeline.resources import shipped_weights

    state = load_file(shipped_weights("digits_cnn"))
    for channel in (3, 11):
        state["conv1.weight"][channel] = 0
    save_file(state, tmp_path / "dead.safetensors")
    recorder = recorded_run(compose(f"model.checkpoint={tmp_path / 'dead.safetensors'}"), tmp_path / "run")
    table = recorder.ended.ranking.table
    assert table.tail(2)[["rank", "channel", "score", "dead"]].to_numpy().tolist() == [
        [15, 3, 0.0, True],
        [16, 11, 0.0, True],
    ]
    assert not table.head(14).dead.any()


def test_images_with_equal_class_scores_are_refused(compose: Compose, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from pipeline.resources import shipped_weights

    state = load_file(shipped_weights("digits_cnn"))
    state["conv1.weight"][:] = 0
    state["conv2.weight"][:] = 0
    save_file(state, tmp_path / "dead.safetensors")
    with pytest.raises(InputError, match=r"^class scores must differ between images; got .* for every image "):
        recorded_run(compose(f"model.checkpoint={tmp_path / 'dead.safetensors'}"), tmp_path / "run")
