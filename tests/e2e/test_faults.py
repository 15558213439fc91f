"""Runs that are killed, disks that are full, and runs that start at the same time."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.artifacts.base import own_files
from pipeline.config import compose_settings
from pipeline.runner import STAGES, run
from pipeline.settings import Settings
from pipeline.store import Store
from pipeline.store.housekeeping import entries
from pipeline.tracking.connection import connect
from pipeline.tracking.mlflow import MlflowTracker
from tests.helpers.cli import Cli
from tests.helpers.processes import CONTEXT, rank_network, start_command, start_network, start_run
from tests.helpers.settings import SMALL
from tests.helpers.tracking import logged_runs

NAMES = [stage.name for stage in STAGES]
N_KILLED = 5  # in each of the eight stages


def settings_in(outputs: Path, *overrides: str) -> Settings:
    return compose_settings([f"paths.outputs={outputs}", *SMALL, *overrides])


def assert_store_is_whole(outputs: Path) -> None:
    found = list(entries(Store(outputs / "store"), verify=True))
    assert [(entry.name, entry.damage) for entry in found if entry.damage] == []
    assert {entry.name.partition("/")[0] for entry in found} >= set(NAMES)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Path, dict[str, float]]:
    """Outputs of a complete run, and the seconds that each of its stages took, including the writing of files."""
    outputs = tmp_path_factory.mktemp("complete")
    shutil.copy(empty_database, outputs)
    process, announced = start_run(settings_in(outputs, "tracking.enabled=true"), outputs / "run")
    begun, seconds = {}, {}
    for _ in range(2 * len(NAMES)):
        event, stage = announced.recv()
        if event == "started":
            begun[stage] = time.perf_counter()
        else:
            seconds[stage] = time.perf_counter() - begun[stage]
    process.join()
    assert process.exitcode == 0
    return outputs, seconds


def results_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a stage's only artifact, without its description, which contains the time."""
    (artifact,) = folder.iterdir()
    return {name: (artifact / name).read_bytes() for name in own_files(artifact)}


@pytest.mark.parametrize("stage", NAMES)
def test_a_run_that_is_killed_at_a_random_time_loses_only_the_stage_that_it_computes(
    tmp_path: Path, stage: str, complete: tuple[Path, dict[str, float]], empty_database: Path
) -> None:
    reference, seconds = complete
    draw, span, n_killed, trial = random.Random(stage), seconds[stage], 0, 0
    while n_killed < N_KILLED:
        outputs, trial = tmp_path / str(trial), trial + 1
        outputs.mkdir()
        shutil.copy(empty_database, outputs)
        for other in set(NAMES) - {stage}:
            shutil.copytree(reference / "store" / other, outputs / "store" / other)
        is_tracked = n_killed == 0
        settings = settings_in(outputs, f"tracking.enabled={str(is_tracked).lower()}")
        process, announced = start_run(settings, outputs / "killed")
        while announced.recv() != ("started", stage):
            pass
        time.sleep(draw.uniform(0, span))
        process.kill()
        process.join()
        if (outputs / "store" / stage).is_dir() and any((outputs / "store" / stage).iterdir()):
            # Killed after the artifact was complete: the stage takes less time than when it was measured.
            assert results_of(outputs / "store" / stage) == results_of(reference / "store" / stage)
            span *= 0.7
            continue
        assert process.exitcode == -signal.SIGKILL
        n_killed += 1
        result = run(settings, outputs / "again", [MlflowTracker()] if is_tracked else [])
        assert [report.stage.name for report in result.reports if not report.is_cached] == [stage]
        assert results_of(outputs / "store" / stage) == results_of(reference / "store" / stage)
        assert_store_is_whole(outputs)
        assert list((outputs / "store" / "tmp").iterdir()) == []


def test_a_ranking_of_several_layers_that_is_killed_again_and_again_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    # Two passes over the images, of which the maps are removed.
    several = ("layer=[conv1,conv3,conv*]", "n_images=40", "score.bootstrap=20", "network.disk_gib=0.0007")
    rank_network(settings_in(tmp_path / "whole", *several), tmp_path / "whole" / "run")
    draw = random.Random(0)
    for _ in range(10):
        process, announced = start_network(settings_in(tmp_path / "killed", *several), tmp_path / "killed" / "run")
        for _ in range(draw.randint(2, 10)):  # of at least 16 messages that stages begin or end
            announced.recv()
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    rank_network(settings_in(tmp_path / "killed", *several), tmp_path / "killed" / "run")
    for name in ("network.csv", "layers.csv", "not_ranked.csv"):
        expected = (tmp_path / "whole" / "run" / name).read_bytes()
        assert (tmp_path / "killed" / "run" / name).read_bytes() == expected
    found = list(entries(Store(tmp_path / "killed" / "store"), verify=True))
    assert [(entry.name, entry.damage) for entry in found if entry.damage] == []
    for folder in ("tmp", "activate"):  # maps of the killed runs are removed as well
        assert list((tmp_path / "killed" / "store" / folder).iterdir()) == []


def test_a_sweep_that_is_killed_goes_on_with_the_same_bytes(tmp_path: Path, cli: Cli, empty_database: Path) -> None:
    swept = ["--multirun", *SMALL[1:], "tracking.enabled=true", "ablate.when=never", "layer=conv1,conv2"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        shutil.copy(empty_database, tmp_path / name)
    process = start_command([*swept, f"paths.outputs={tmp_path / 'killed'}"], tmp_path / "killed.out")
    while not list(tmp_path.glob("killed/sweeps/*/1/.hydra")):
        assert process.is_alive(), (tmp_path / "killed.out").read_text()
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    refused = cli("--resume", "last", f"paths.outputs={tmp_path / 'killed'}")
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (sweep,) = (tmp_path / "killed" / "sweeps").iterdir()
    assert (refused[0], refused[1]) == (1, [])
    assert refused[2][0].startswith(f"error: --resume must be a sweep that is not running; got {sweep.name}, which ")
    assert not (sweep / "1" / "result.json").exists()
    first = (sweep / "0" / "result.json").stat().st_mtime_ns

    code, out, err = cli("--resume", str(sweep))
    assert (code, err) == (0, [])
    assert out[:2] == ["1 of 2 jobs is finished; 1 remains.", "  job 1    layer=conv2"]
    assert (sweep / "0" / "result.json").stat().st_mtime_ns == first
    assert cli(*swept, f"paths.outputs={tmp_path / 'whole'}")[0] == 0
    (whole,) = (tmp_path / "whole" / "sweeps").iterdir()
    names = ("0/ranking.csv", "1/ranking.csv", "rankings.csv", "curves.png")
    assert [(sweep / name).read_bytes() for name in names] == [(whole / name).read_bytes() for name in names]
    runs = logged_runs(MlflowClient(f"sqlite:///{tmp_path / 'killed' / 'mlflow.db'}"))
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert sorted(run.data.tags["job"] for run in finished if run.data.tags.get("sweep") == sweep.name) == ["0", "1"]
    assert [run.info.status for run in runs if run.data.tags.get("summary_of") == sweep.name] == ["FINISHED"]
    assert not any(run.info.status == "RUNNING" for run in runs)


@pytest.mark.parametrize(("free", "tracking"), [(0, "false"), (60, "false"), (20, "true"), (200, "true")])
def test_a_full_disk_is_reported_in_one_line_and_finished_stages_are_kept(
    small_disk: Path, tmp_path: Path, cli: Cli, empty_database: Path, free: int, tracking: str
) -> None:
    outputs = small_disk / "outputs"
    outputs.mkdir()
    shutil.copy(empty_database, outputs)
    here = [*SMALL, f"paths.outputs={outputs}", f"tracking.enabled={tracking}"]
    assert cli(*here)[0] == 0
    full = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"0" * max(0, full.f_bavail * full.f_frsize - free * 1024))
    code, _, err = cli(*here, "layer=conv2", "n_images=60")
    assert code == 1
    assert len(err) == 1, err
    assert err[0].startswith("error: ")
    assert "full" in err[0]
    assert_store_is_whole(outputs)
    (small_disk / "filler").unlink()
    assert cli(*here, "layer=conv2", "n_images=60")[::2] == (0, [])
    code, out, _ = cli(*here)
    assert [line.endswith("from the store") for line in out[1:7]] == [True] * 6
    assert_store_is_whole(outputs)


def _connect(outputs: Path) -> None:
    connect(outputs, None, "pcace")


def test_a_process_that_is_killed_while_it_creates_the_database_leaves_none(tmp_path: Path) -> None:
    process = CONTEXT.Process(target=_connect, args=(tmp_path,))
    process.start()
    while not any(part.stat().st_size > 100_000 for part in tmp_path.glob("mlflow.db.*.part")):
        assert process.is_alive()
    process.kill()
    process.join()
    assert not (tmp_path / "mlflow.db").exists()
    client, experiment = connect(tmp_path, None, "pcace")
    assert client.create_run(experiment).info.status == "RUNNING"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_eight_runs_that_start_together_compute_each_stage_once_and_are_all_logged(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"  # empty: neither a store nor a database
    arguments = [*SMALL, "tracking.enabled=true", f"paths.outputs={outputs}"]
    started = [start_command(arguments, tmp_path / f"{index}.out") for index in range(8)]
    for process in started:
        process.join()
    printed = [(tmp_path / f"{index}.out").read_text() for index in range(8)]
    failed = [text for process, text in zip(started, printed, strict=True) if process.exitcode != 0]
    assert failed == []
    lines = [line.split() for text in printed for line in text.splitlines() if line.startswith("  ")]
    for name in NAMES:
        stage_lines = [line for line in lines if line[0] == name]
        assert len(stage_lines) == 8
        assert sum(line[-1] != "store" for line in stage_lines) == 1, name
    assert any("is being computed by process" in text for text in printed)

    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    runs = logged_runs(client)
    assert [logged.info.status for logged in runs] == ["FINISHED"] * 8
    rankings = set()
    for logged in runs:
        assert len(client.get_metric_history(logged.info.run_id, "score.penalised/by_rank")) == 16
        artifacts = {artifact.path for artifact in client.list_artifacts(logged.info.run_id)}
        assert {"config.json", "environment.json", "keys.json", "ranking.csv", "ranking.json", "figures"} <= artifacts
        csv = client.download_artifacts(logged.info.run_id, "ranking.csv", str(tmp_path))
        rankings.add(Path(csv).read_bytes())
    assert len(rankings) == 1
