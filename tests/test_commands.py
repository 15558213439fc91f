"""The command `pcace` and its subcommands."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline import commands, completion, env
from pipeline.commands import COMMANDS
from pipeline.environment import environment
from tests.helpers.cli import command_line
from tests.helpers.project import ROOT

SLOW_IMPORTS = {"torch", "hydra", "mlflow", "numpy", "pandas", "rich", "matplotlib"}


def bash(script: str, line: str) -> list[str]:
    """Return what bash completes at the end of a line, after the script was read."""
    n_words = len(line.split(" ")) - 1
    words = " ".join(f"'{word}'" for word in line.split(" "))
    program = (
        f"{script}\nCOMP_WORDS=({words}); COMP_CWORD={n_words}; COMP_LINE='{line}'; COMP_POINT={len(line)}\n"
        '_pcace; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    return sorted(done.stdout.split())


def test_the_help_lists_all_commands_and_imports_no_large_library() -> None:
    program = (
        "import sys; sys.argv[1:] = ['--help']; from pipeline.commands import main; main()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip() == commands.usage()
    assert set(done.stderr.split()) & SLOW_IMPORTS == set()
    for name in ("run", "layers", "compare", "ui", "store", "reproduce", "env", "plan"):
        assert f"\n  {name} " in done.stdout


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pcace", "--version"])
    commands.main()
    assert capsys.readouterr().out == f"pcace {version('pcace')}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_main_function(name: str) -> None:
    assert callable(import_module(COMMANDS[name].module).main)


def test_a_command_gets_the_arguments_behind_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with command_line(tmp_path, monkeypatch, capsys) as call:
        code, output, errors = call("layers", "model=digits_cnn", main=commands.main)
        assert (code, errors) == (0, [])
        assert output[-1].startswith("8 layers of digits_cnn for images of 8 x 8 pixels")
        assert (
            call("layers", "model=digits_cnn", main=commands.main)[1]
            == call("model=digits_cnn", main=import_module("pipeline.layers").main)[1]
        )
        code, output, errors = call("laers", main=commands.main)
        assert (code, output) == (1, [])
        assert errors == [
            "error: the command must be one of run, layers, plan, compare, ui, store, reproduce, export, init, schema, "
            "env, completion; got laers. Did you mean layers?"
        ]
        # Without a command, the pipeline runs, with one line for each wrong setting.
        for arguments in (("n_imgs=3",), ("run", "n_imgs=3")):
            code, output, errors = call(*arguments, main=commands.main)
            assert (code, output) == (1, [])
            assert errors == ["error: n_imgs must be a known setting; got 3. Did you mean n_images?"]


def test_the_module_accepts_the_same_commands() -> None:
    done = [
        subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for arguments in (["pipeline", "store", "--help"], ["pipeline.store", "--help"])
    ]
    assert done[0].split("\n", 1)[1] == done[1].split("\n", 1)[1]


def test_the_environment_has_what_a_bug_report_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pcace"])
    env.main()
    found = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert {name: found[name] for name in ("pcace", "python", "torch", "numpy", "cpu")} == {
        name: environment()[name] for name in ("pcace", "python", "torch", "numpy", "cpu")
    }
    assert found["package"] == str(ROOT / "pipeline")
    assert found["configuration"] == str(ROOT / "conf")


def test_bash_completes_commands_settings_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pcace"])
    completion.main()
    script = capsys.readouterr().out
    assert bash(script, "pcace re") == ["reduce.memory_mib=", "reproduce"]
    assert bash(script, "pcace run n_c") == ["n_components="]
    assert bash(script, "pcace run rep") == []
    assert bash(script, "pcace run score=m") == ["mean_activation", "multiple_correlation", "mutual_information"]
    assert "resnet18" in bash(script, "pcace layers model=")
