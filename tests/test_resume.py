"""Sweeps that are resumed, with jobs that write a ranking without computing one."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra._internal.core_plugins import basic_launcher
from hydra.core.plugins import Plugins
from omegaconf import DictConfig

from pipeline import job, resume
from pipeline import sweep as sweep_summary
from pipeline.artifacts import Ranking
from pipeline.config import run_dir, settings_from_config
from pipeline.errors import InputError
from pipeline.networks.remembered import remembered
from pipeline.records import RESULT, Record
from pipeline.resolve import resolve
from pipeline.run_folder import write_settings
from pipeline.store.locks import claimed
from tests.helpers.cli import Cli, command_line
from tests.helpers.rankings import ranking
from tests.helpers.settings import SMALL

LAYERS = ("conv1", "conv2", "conv3")
SWEEP = ("--multirun", *SMALL[1:], f"layer={','.join(LAYERS)}")
NO_SWEEP = "--resume must be the folder or the name of a sweep, or last; got"
OWNER = f"process {os.getpid()} on {socket.gethostname()}"


class Jobs:
    """Takes the place of the pipeline: notes which jobs run, and ends some of them with an error."""

    def __init__(self) -> None:
        self.run: list[tuple[str, str]] = []  # folder and layer
        self.errors: dict[str, BaseException] = {}  # by layer
        self.batch_sizes: list[int] = []  # of the settings, and the one that fits into the memory

    def __call__(self, config: DictConfig, record: Record) -> None:
        settings, folder = settings_from_config(config), Path(run_dir())
        self.run.append((folder.name, settings.layer))
        if settings.layer in self.errors:
            raise self.errors[settings.layer]
        with remembered():
            resolved = resolve(settings)
            record.batch_sizes = self.batch_sizes
            if self.batch_sizes:
                resolved = replace(resolved, model=replace(resolved.model, batch_size=self.batch_sizes[1]))
            record.keys = resume._keys(resolved)
        write_settings(resolved, folder)
        table = ranking([0.1, 0.2, 0.3], settings.layer).assign(by="penalised", statistic="penalised")
        table.to_parquet(folder / Ranking.PARQUET)
        record.status = "finished"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    found = Jobs()
    monkeypatch.setattr(job, "_run", found)
    monkeypatch.setattr(sweep_summary, "draw", lambda jobs, folder: [])
    return found


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    monkeypatch.chdir(tmp_path)
    with command_line(tmp_path / "outputs", monkeypatch, capsys) as call:
        yield call


def sweep_in(folder: Path) -> Path:
    (found,) = (folder / "outputs" / "sweeps").iterdir()
    return found


def all_files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_sweep_that_was_stopped_runs_the_jobs_that_are_left(tmp_path: Path, cli: Cli, jobs: Jobs) -> None:
    jobs.errors = {"conv2": KeyboardInterrupt()}
    code, _, err = cli(*SWEEP)
    sweep = sweep_in(tmp_path)
    command = f"pcace run --resume {sweep.name}"
    assert (code, err) == (130, [f"stopped; finished stages are kept in the store. Resume the sweep: {command}"])
    assert not (sweep / "summary.csv").exists()

    jobs.errors, jobs.run = {}, []
    code, out, err = cli("--resume", "last")
    assert (code, err) == (0, [])
    assert out[:4] == ["1 of 3 jobs is finished; 2 remain.", "  job 1    layer=conv2", "  job 2    layer=conv3", ""]
    assert jobs.run == [("1", "conv2"), ("2", "conv3")]
    table = pd.read_csv(sweep / "summary.csv")
    assert table.question.tolist() == [f"layer={layer}" for layer in LAYERS]
    assert table.status.tolist() == ["finished"] * 3


def test_a_sweep_that_is_complete_is_left_as_it_is(tmp_path: Path, cli: Cli, jobs: Jobs) -> None:
    assert cli(*SWEEP)[0] == 0
    sweep = sweep_in(tmp_path)
    before, jobs.run = all_files(sweep), []
    said = [f"All 3 jobs of the sweep {sweep.name} are finished; there is nothing left to do."]
    for name in ("last", sweep.name, str(sweep), os.path.relpath(sweep)):
        assert cli("--resume", name) == (0, said, [])
    assert jobs.run == []
    after = all_files(sweep)
    assert {path: after[path] for path in after if ".locks" not in path.parts} == {
        path: before[path] for path in before if ".locks" not in path.parts
    }


def test_jobs_that_failed_are_run_again_under_their_numbers(tmp_path: Path, cli: Cli, jobs: Jobs) -> None:
    jobs.errors = {"conv2": InputError("there must be images; got none.")}
    code, out, err = cli(*SWEEP)
    sweep = sweep_in(tmp_path)
    assert (code, err) == (1, ["error: there must be images; got none."])
    assert out[-1] == f"Resume   pcace run --resume {sweep.name} (runs the jobs that have not finished)"
    # A summary that a killed process did not write is written in the end.
    jobs.errors, jobs.run = {}, []
    assert cli(f"--resume={sweep.name}")[0] == 0
    assert jobs.run == [("1", "conv2")]
    (sweep / "summary.csv").unlink()
    code, out, _ = cli("--resume", "last")
    assert (code, out[0]) == (0, "All 3 jobs are finished; only the summary remains to be written.")
    assert pd.read_csv(sweep / "summary.csv").status.tolist() == ["finished"] * 3


def test_a_launcher_that_fails_leaves_the_other_jobs_to_the_next_command(
    tmp_path: Path, cli: Cli, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher: Any = Plugins.instance().class_name_to_class[f"{basic_launcher.__name__}.BasicLauncher"]
    launch = launcher.launch

    def launch_one(launcher: Any, overrides: Any, initial_job_idx: int) -> None:
        launch(launcher, overrides[:1], initial_job_idx)
        raise RuntimeError("a worker was killed")

    with monkeypatch.context() as patch:
        patch.setattr(launcher, "launch", launch_one)
        code, out, err = cli(*SWEEP)
    sweep, jobs.run = sweep_in(tmp_path), []
    message = "error: every job must end without an error of its launcher; got: a worker was killed. See the logs in"
    assert (code, err) == (1, [f"{message} {sweep}."])
    assert out[-1] == f"Resume   pcace run --resume {sweep.name} (runs the jobs that have not finished)"
    assert cli("--resume", "last")[0] == 0
    assert jobs.run == [("1", "conv2"), ("2", "conv3")]


def test_a_job_whose_ranking_is_damaged_is_run_again(tmp_path: Path, cli: Cli, jobs: Jobs) -> None:
    cli(*SWEEP)
    (sweep_in(tmp_path) / "2" / Ranking.PARQUET).write_bytes(b"")  # after a power failure
    jobs.run = []
    assert cli("--resume", "last")[0] == 0
    assert jobs.run == [("2", "conv3")]


def test_a_sweep_that_is_running_is_not_resumed(tmp_path: Path, cli: Cli, jobs: Jobs) -> None:
    jobs.errors = {"conv2": KeyboardInterrupt()}
    cli(*SWEEP)
    sweep, jobs.run = sweep_in(tmp_path), []
    with claimed(sweep / ".locks" / "sweep") as owner:
        assert owner == ""
        expected = (
            f"error: --resume must be a sweep that is not running; got {sweep.name}, which {OWNER} is running. "
            "Wait for its end, or end that process first."
        )
        assert cli("--resume", "last") == (1, [], [expected])
    with claimed(sweep / ".locks" / "1"):
        expected = (
            f"error: --resume must be a sweep none of whose jobs is running; got {sweep.name} with job 1 ({OWNER}). "
            "Wait for their end, or end them first."
        )
        assert cli("--resume", "last") == (1, [], [expected])
    assert jobs.run == []


def test_a_job_that_another_process_has_finished_is_not_run_again(
    tmp_path: Path, cli: Cli, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(*SWEEP)
    path = sweep_in(tmp_path) / "1" / RESULT
    result, launch = path.read_bytes(), resume._launch
    path.unlink()
    jobs.run = []

    def launch_later(*arguments: Any) -> None:  # as if a job of the interrupted sweep had waited in a queue
        path.write_bytes(result)
        launch(*arguments)

    monkeypatch.setattr(resume, "_launch", launch_later)
    code, out, _ = cli("--resume", "last")
    assert code == 0
    assert "Job 1 of the sweep is finished already." in out
    assert jobs.run == []
    assert path.read_bytes() == result


def test_a_sweep_whose_finished_jobs_would_have_another_result_is_refused(tmp_path: Path, cli: Cli, jobs: Jobs) -> None:
    jobs.errors = {"conv3": KeyboardInterrupt()}
    cli(*SWEEP)
    sweep, jobs.run = sweep_in(tmp_path), []
    path = sweep / "1" / RESULT
    record = json.loads(path.read_text())
    anew = " ".join(["pcace run --multirun", *SMALL[1:], f"layer={','.join(LAYERS)}"])
    start = "error: --resume must be a sweep whose finished jobs would have the same results now; got job 1, for which "

    path.write_text(json.dumps({**record, "keys": {**record["keys"], "score": "0", "visualize": "1"}}))
    reason = "the stage score has another one (its images, its network or the code have changed)"
    assert cli("--resume", "last") == (1, [], [f"{start}{reason}. Start a new sweep: {anew}"])

    settings = json.loads((sweep / "1" / "settings.json").read_text())
    (sweep / "1" / "settings.json").write_text(
        json.dumps({**settings, "score": {**settings["score"], "permutations": 7}})
    )
    now = settings["score"]["permutations"]
    reason = f"the stage score has another one (score.permutations was 7 and is {now})"
    assert cli("--resume", "last") == (1, [], [f"{start}{reason}. Start a new sweep: {anew}"])

    path.write_text(json.dumps({**record, "overrides": ["layer=conv9", *record["overrides"][1:]]}))
    (error,) = cli("--resume", "last")[2]
    assert error.startswith("error: --resume must be a sweep whose list of jobs is the same as when it started; got ")
    assert "for job 1, which was layer=conv9" in error
    assert jobs.run == []


def test_a_finished_job_may_have_gone_on_with_smaller_batches(tmp_path: Path, cli: Cli, jobs: Jobs) -> None:
    jobs.errors, jobs.batch_sizes = {"conv2": KeyboardInterrupt()}, [16, 4]
    cli(*SWEEP, "model.batch_size=16")
    sweep, jobs.errors, jobs.run = sweep_in(tmp_path), {}, []
    record = json.loads((sweep / "0" / RESULT).read_text())
    (sweep / "0" / RESULT).write_text(json.dumps({**record, "batch_sizes": [8, 4]}))  # the settings were others
    (error,) = cli("--resume", "last")[2]
    assert "for which the stage activate has another one (model.batch_size was 4 and is 16). Start" in error
    (sweep / "0" / RESULT).write_text(json.dumps(record))
    assert cli("--resume", "last")[0] == 0
    assert jobs.run == [("1", "conv2"), ("2", "conv3")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--resume", "last", "layer=conv2", "--cfg=job"],
            "--resume must be given without other arguments than paths.outputs and settings of the launcher; got "
            "layer=conv2, --cfg=job. The sweep has its own settings: start a new sweep to change them.",
        ),
        (
            ["--multirun", "--resume"],
            f"{NO_SWEEP} nothing. Latest sweeps in {{outputs}}: none.",
        ),
        (
            ["--resume", "last"],
            f"{NO_SWEEP} last. Latest sweeps in {{outputs}}: none.",
        ),
        (
            ["--resume", "monday", "paths.outputs=elsewhere"],
            f"{NO_SWEEP} monday. Latest sweeps in elsewhere: none.",
        ),
    ],
)
def test_what_cannot_be_resumed_is_refused(tmp_path: Path, cli: Cli, arguments: list[str], message: str) -> None:
    assert cli(*arguments) == (1, [], [f"error: {message.format(outputs=tmp_path / 'outputs')}"])


def test_a_sweep_without_its_settings_is_refused(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "outputs" / "sweeps" / "monday"
    folder.mkdir(parents=True)
    (folder / "multirun.yaml").write_text("")  # after a power failure
    code, out, (error,) = cli("--resume", "monday")
    assert (code, out) == (1, [])
    assert error.startswith(
        f"error: a sweep must have a file multirun.yaml with its settings; got {folder}/multirun.yaml"
    )
    assert error.endswith("Start the sweep again: finished stages come from the store.")


def test_a_new_sweep_says_that_an_interrupted_one_exists(tmp_path: Path, cli: Cli, jobs: Jobs) -> None:
    jobs.errors = {"conv2": KeyboardInterrupt()}
    cli(*SWEEP)
    sweep = sweep_in(tmp_path)
    hint = f"An interrupted sweep with the same settings exists. To resume it: pcace run --resume {sweep.name}"
    assert hint in cli(*SWEEP)[1]
    assert hint.rpartition(" ")[0] in "\n".join(cli("hydra.mode=MULTIRUN", *SWEEP[1:])[1])
    assert hint not in cli(*SWEEP, "seed=1")[1]
    with claimed(sweep / ".locks" / "sweep"):  # still running
        assert hint not in cli(*SWEEP)[1]


def test_a_new_sweep_does_not_take_the_folder_of_an_earlier_one(tmp_path: Path, cli: Cli, jobs: Jobs) -> None:
    folder = tmp_path / "mine"
    assert cli(*SWEEP, f"hydra.sweep.dir={folder}")[0] == 0
    jobs.run = []
    expected = (
        f"error: hydra.sweep.dir must be a folder without an earlier sweep; got {folder}. "
        f"Choose another folder, or resume that sweep: pcace run --resume {folder}"
    )
    assert cli("--multirun", *SMALL, "seed=1,2", f"hydra.sweep.dir={folder}") == (1, [], [expected])
    assert jobs.run == []
    (folder / "0" / RESULT).unlink()
    assert cli("--resume", str(folder))[0] == 0
    assert jobs.run == [("0", "conv1")]


def test_another_launcher_replaces_the_recorded_one(tmp_path: Path) -> None:
    recorded = resume.Recorded([], ["hydra.mode=MULTIRUN", "hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=9"])
    last = ["hydra.hydra_logging.root.level=WARNING", "hydra.mode=MULTIRUN", f"hydra.sweep.dir='{tmp_path}'"]
    longer = ["hydra.launcher.timeout_min=600"]
    assert resume._hydra_overrides(recorded, longer, tmp_path) == [*recorded.hydra[1:], *longer, *last]
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert resume._hydra_overrides(recorded, joblib, tmp_path) == [*joblib, *last]
