"""The commands ``pcace compare`` and ``pipeline.ui``: output, logged runs and errors."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline import compare, ui
from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.numerics.agreement import ranks_by_channel
from pipeline.report_writer import ReportWriter
from pipeline.runner import run
from pipeline.tracking.comparison import labelled
from pipeline.tracking.connection import tracking_uri
from pipeline.tracking.mlflow import MlflowTracker
from pipeline.tracking.runs import LoggedRun
from tests.helpers.settings import SMALL
from tests.helpers.tracking import logged_runs

Cli = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call `pcace compare` in this process; return exit code, stdout and stderr lines."""
    monkeypatch.setenv("PCACE_OUTPUTS", str(tmp_path / "outputs"))

    def call(*arguments: str) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        code = 0
        try:
            compare.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Path, list[pd.DataFrame]]:
    """Outputs with three runs of one sweep, two of conv1 and one of conv2, and their rankings."""
    outputs = tmp_path_factory.mktemp("swept") / "outputs"
    outputs.mkdir()
    shutil.copy(empty_database, outputs)
    found = []
    for name, asked in enumerate((["n_components=1"], ["n_components=2"], ["n_components=1", "layer=conv2"])):
        settings = compose_settings([f"paths.outputs={outputs}", *SMALL, "tracking.enabled=true", *asked])
        result = run(settings, outputs / str(name), [ReportWriter("x"), MlflowTracker({"sweep": "monday"})])
        found.append(result.ranking.table)
    return outputs, found


@pytest.fixture
def swept(
    cli: Cli, finished: tuple[Path, list[pd.DataFrame]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[pd.DataFrame]]:
    """The same; the command reads these outputs."""
    monkeypatch.setenv("PCACE_OUTPUTS", str(finished[0]))
    return finished


def logged(outputs: Path) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(tracking_uri(outputs, None))
    return client, logged_runs(client)


def test_a_comparison_is_printed_drawn_and_logged(cli: Cli, swept: tuple[Path, list[pd.DataFrame]]) -> None:
    outputs, tables = swept
    code, out, err = cli("--sweep", "last", "--top", "5")
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in out[:4]] == ["run", "layer=conv1,", "layer=conv1,", "layer=conv2,"]
    assert out[5].split() == ["first", "run", "second", "run", "Spearman", "Kendall", "RBO", "top", "5"]
    first, second = (ranks_by_channel(table) for table in tables[:2])
    spearman = float(np.corrcoef(first, second)[0, 1])
    assert f"{spearman:.3f}" in out[6].split()
    assert any(line.startswith("Ranks are not compared between different layers, because ") for line in out)

    folder = outputs / "comparisons" / "monday"
    names = {"agreement.png", "slopes.png", "distributions.png", "comparison.html"}
    assert {path.name for path in folder.iterdir()} == names
    client, (compared, *runs) = logged(outputs)
    assert compared.data.tags["compares"].split(",") == [run.info.run_id for run in reversed(runs)]
    assert (compared.info.status, "sweep" in compared.data.tags) == ("FINISHED", False)
    assert compared.data.metrics["spearman.mean"] == pytest.approx(spearman)
    assert {item.path for item in client.list_artifacts(compared.info.run_id)} == {*names, "agreement.json"}

    overlap = [run.data.metrics.get("quality/overlap_with_first.rank_biased") for run in reversed(runs)]
    assert overlap[0] == 1
    assert overlap[1] is not None
    assert 0 < overlap[1] < 1
    assert overlap[2] is None  # another layer
    code, out, _ = cli("--last", "2")  # the run of the comparison itself has no ranking
    assert code == 0
    assert [line.split()[0] for line in out[1:3]] == ["layer=conv1,", "layer=conv2,"]
    code, out, _ = cli(*(run.info.run_id[:9] for run in runs[1:]))
    assert [line.split()[0] for line in out[1:3]] == ["n_components=2", "n_components=1"]

    settings = compose_settings([f"paths.outputs={outputs}"])
    shown = dict(ui.addresses(settings, "http://here"))
    latest = f"http://here/#/experiments/1/runs/{runs[0].info.run_id}/artifacts/report.html"
    assert shown["latest report"] == latest
    assert shown["latest sweep, page"].endswith(f"/runs/{compared.info.run_id}/artifacts/comparison.html")
    assert "tags.sweep%20%3D%20%27monday%27" in shown["latest sweep, tables"]


@pytest.mark.usefixtures("swept")
def test_errors_are_one_line(cli: Cli) -> None:
    for arguments, start in (
        (["--sweep", "tuesday"], "--sweep must be a sweep with finished runs; got 'tuesday'. Latest: monday."),
        (["--sweep", "x' or '1"], "--sweep must be a sweep with finished runs; got 'x' or '1'. Latest: monday."),
        (
            ["nosuchrun", "--top", "3"],
            "a run must be a finished run's id, or its first characters; got 'nosuchrun' (there is none).",
        ),
        (["--last", "1"], "a comparison must have at least 2 finished runs; got 1."),
        ([], "runs must be given in one way (RUN RUN ..., --sweep ID or --last N); got 0 ways."),
        (
            ["--last", "2", "--sweep", "monday"],
            "runs must be given in one way (RUN RUN ..., --sweep ID or --last N); got 2 ways.",
        ),
        (["--last", "0"], "--last must be at least 1; got 0."),
        (
            ["--last", "x"],
            "the arguments must be those that --help shows; got a wrong one (argument --last: invalid int value: 'x').",
        ),
        (["--last", "2", "n_imgs=3"], "n_imgs must be a known setting; got 3."),
        (
            ["--last", "2", "tracking.experiment=none"],
            "tracking.experiment must be an experiment with runs; got none,",
        ),
    ):
        code, out, err = cli(*arguments)
        assert (code, out, len(err)) == (1, [], 1), arguments
        assert err[0].startswith(f"error: {start}")


def test_the_error_without_runs_says_how_to_make_one(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("--last", "2")
    assert code == 1
    assert err == [f"error: runs must have been logged to {tmp_path / 'outputs'}; got none. Make one: pcace run."]


def test_labels_are_the_settings_in_which_runs_differ() -> None:
    def logged_run(run_id: str, **params: str) -> LoggedRun:
        names = {key.replace("__", "."): value for key, value in params.items()}
        return LoggedRun(run_id, "name", names, {}, pd.DataFrame(), {})

    runs = [logged_run("aaaaaaaa", layer="a", seed="0"), logged_run("bbbbbbbb", layer="b", seed="0")]
    assert labelled(runs) == ["layer=a", "layer=b"]
    runs = [logged_run("aaaaaaaa", layer="a", score__bass="0"), logged_run("bbbbbbbb", layer="a", score__bass="5")]
    assert labelled(runs) == ["bass=0", "bass=5"]
    runs = [
        logged_run("aaaaaaaa", score__kind="ace", score__bass="0", score__top_k="10"),
        logged_run("bbbbbbbb", score__kind="conductance", score__n_steps="20", score__top_k="10"),
    ]
    assert labelled(runs) == ["kind=ace", "kind=conductance"]
    assert labelled([logged_run("aaaaaaaa", layer="a"), logged_run("bbbbbbbb", layer="a")]) == ["aaaaaa", "bbbbbb"]


def test_dead_channels_have_their_mean_rank() -> None:
    table = pd.DataFrame({"channel": [2, 0, 1, 3], "rank": [1, 2, 3, 4], "dead": [False, False, True, True]})
    assert ranks_by_channel(table).tolist() == [2, 3.5, 1, 3.5]


def test_a_port_may_be_asked_for() -> None:
    assert ui.requested_port(["--port=5123", "paths.outputs=x"]) == (5123, ["paths.outputs=x"])
    assert ui.requested_port([]) == (None, [])
    for port in ("0", "65536", "x", ""):
        with pytest.raises(InputError, match=rf"^--port must be in \[1, 65535\]; got {port}\.$"):
            ui.requested_port([f"--port={port}"])
