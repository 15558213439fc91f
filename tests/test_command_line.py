"""Commands whose output is closed while they run, with real pipes and terminals."""

from __future__ import annotations

import getpass
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from numba.core import config as numba_config

from pipeline import __main__ as main_module
from pipeline.command_line import command, provide_home
from pipeline.files import temporary_home
from pipeline.numerics import compiled
from tests.helpers.processes import start_command
from tests.helpers.project import ROOT
from tests.helpers.settings import SMALL

HELP = [
    ["pipeline", "--help"],
    ["pipeline.layers"],
    ["pipeline.compare", "--help"],
    ["pipeline.ui", "--help"],
    ["pipeline.reproduce", "--help"],
    ["pipeline.store", "ls"],
]


def finished(arguments: list[str], tmp_path: Path, stdout: int) -> tuple[int, str]:
    """Run a command; return its exit code and its stderr."""
    command = [sys.executable, "-m", *arguments]
    environment = {**os.environ, "PCACE_OUTPUTS": str(tmp_path)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", HELP, ids=lambda each: each[0])
def test_a_closed_pipe_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    here, there = os.pipe()
    os.close(here)
    try:
        assert finished(arguments, tmp_path, there) == (0, "")
    finally:
        os.close(there)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_terminal_is_no_error(tmp_path: Path, unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    here, there = os.openpty()
    os.close(here)
    try:
        assert finished(["pipeline.store", "ls"], tmp_path, there) == (0, "")
    finally:
        os.close(there)


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        code, stderr = finished(["pipeline", "--help"], tmp_path, full.fileno())
    assert code == 1
    assert stderr.startswith("error: the disk must have room for ")


def test_the_descriptor_of_an_output_that_is_closed_from_the_start_is_not_reused() -> None:
    code = "import os, sys; from pipeline.command_line import ignore_closed_output; ignore_closed_output(); "
    code += "print('lost', flush=True); "
    code += "sys.exit(os.fstat(1).st_rdev != os.stat(os.devnull).st_rdev)"
    done = subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{code}" >&-'], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_a_run_whose_output_is_closed_writes_all_its_files(tmp_path: Path) -> None:
    pipe, run_dir = tmp_path / "pipe", tmp_path / "run"
    os.mkfifo(pipe)
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    process = start_command([*SMALL, outputs, f"hydra.run.dir={run_dir}"], pipe)
    with pipe.open() as reader:
        assert reader.readline().startswith("Which channels of conv1")
    process.join()
    assert process.exitcode == 0
    assert len(pd.read_csv(run_dir / "ranking.csv")) == 16
    assert (run_dir / "report.html").exists()


def test_a_sweep_whose_output_is_closed_writes_its_summary(tmp_path: Path) -> None:
    pipe, sweep = tmp_path / "pipe", tmp_path / "sweep"
    os.mkfifo(pipe)
    places = [f"paths.outputs={tmp_path / 'outputs'}", f"hydra.sweep.dir={sweep}"]
    process = start_command(["--multirun", *SMALL, *places, "seed=0,1"], pipe)
    with pipe.open() as reader:
        assert reader.readline()
    process.join()
    assert process.exitcode == 0
    assert pd.read_csv(sweep / "summary.csv").status.tolist() == ["finished", "finished"]


def test_ctrl_c_prints_one_word_and_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, *capsys.readouterr()) == (130, "", "stopped\n")
    assert main_module.main.__wrapped__  # type: ignore[attr-defined]


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A user whose id has neither a name nor a home directory; yields the folder for temporary files."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "")  # so that it is restored, whether it was set or not
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    temporary_home.cache_clear()
    yield tmp_path
    temporary_home.cache_clear()


def test_a_user_without_a_name_or_a_home_directory_gets_both(nameless: Path) -> None:
    with pytest.raises(RuntimeError):
        Path.home()
    provide_home()
    assert Path.home() == nameless / f"pcace-{os.getuid()}"
    assert getpass.getuser() == str(os.getuid())
    assert os.access(Path.home(), os.W_OK)
    assert "MPLCONFIGDIR" not in os.environ


def test_a_home_directory_that_does_not_exist_is_not_used_for_caches(nameless: Path) -> None:
    os.environ["HOME"] = "/nonexistent"
    provide_home()
    assert os.environ["HOME"] == "/nonexistent"
    assert Path(os.environ["MPLCONFIGDIR"]).parent == nameless / f"pcace-{os.getuid()}"


def test_the_compiled_code_is_cached_without_a_home_directory(nameless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(numba_config, "CACHE_DIR", "")
    assert compiled.cache_dir.__wrapped__().parent == nameless / f"pcace-{os.getuid()}"


def test_a_temporary_folder_of_another_user_is_not_used(nameless: Path) -> None:
    (nameless / "elsewhere").mkdir()
    (nameless / f"pcace-{os.getuid()}").symlink_to(nameless / "elsewhere")
    found = temporary_home()
    assert found.parent == nameless
    assert not found.is_symlink()
    assert list((nameless / "elsewhere").iterdir()) == []
