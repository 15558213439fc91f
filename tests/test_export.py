"""Exports of runs and sweeps, from folders whose pages are those of the templates, with little in them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from pipeline import export
from pipeline.artifacts import Ranking
from pipeline.config import compose_settings
from pipeline.figures.network_page import render_network, report_address
from pipeline.records import Record
from pipeline.run_folder import layer_folder, write_settings
from tests.helpers import network_pages
from tests.helpers.cli import Cli, command_line
from tests.helpers.html import html_faults, links
from tests.helpers.network_rankings import network_ranking
from tests.helpers.rankings import ranking

HOSTILE = "<b>it's/../../x & %41"
REPORT = """<!DOCTYPE html>
<html lang="en"><head><title>t</title></head><body><header class="top"><h1>t</h1></header>
<main>
<nav id="network"><a href="../../network.html">All layers of the network</a></nav>
<p>data.root=ROOT</p></main></body></html>
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    monkeypatch.chdir(tmp_path)
    with command_line(tmp_path / "outputs", monkeypatch, capsys) as call:
        yield lambda *arguments: call(*arguments, main=export.main)


def fill_run(folder: Path, layer: str, root: Path) -> None:
    """Write the files of a run that an export takes, and some that it does not take."""
    folder.mkdir(parents=True)
    write_settings(compose_settings(["data=folder", f"data.root={root}", "class_name=cat", "layer=conv1"]), folder)
    page = REPORT.replace("ROOT", str(root)).replace('<a href="../../network.html">All layers of the network</a>', "")
    (folder / "report.html").write_text(page)
    table = ranking([0.1, 0.2, 0.3], layer).assign(by="penalised", statistic="penalised")
    table.to_parquet(folder / Ranking.PARQUET)
    table.to_csv(folder / Ranking.CSV, index=False)
    (folder / "figures" / "channels").mkdir(parents=True)
    (folder / "figures" / "channels" / "1.png").write_bytes(b"png")
    (folder / "figures" / "channels" / "secret.txt").write_text("no")
    (folder / "run.log").write_text(str(root))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of which job 1 has failed and job 2 was killed."""
    folder, root = tmp_path / "outputs" / "sweeps" / "monday", tmp_path / "photos"
    for job, layer in enumerate(("conv1", "conv2", "conv3")):
        overrides = [f"layer={layer}", f"class_name={HOSTILE}", f"data.root={root}/{job}"]
        if job == 0:
            fill_run(folder / "0", layer, root / "0")
            Record("finished", overrides=overrides, reliability=0.8).save(folder / "0")
        else:
            (folder / str(job)).mkdir()
    Record(error=f"there must be images; got none in {root}/1.", overrides=overrides).save(folder / "1")
    recorded = "hydra:\n  overrides:\n    hydra: [hydra.mode=MULTIRUN]\n    task: ['layer=conv1,conv2,conv3']\n"
    (folder / "multirun.yaml").write_text(recorded)
    return folder


def texts(folder: Path) -> dict[str, str]:
    kinds = (".html", ".csv", ".json")
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.suffix in kinds}


def check_pages(folder: Path, private: str) -> None:
    """Check that the pages are whole, that their links lead to files of the export, and that no path is shown."""
    for name, text in texts(folder).items():
        assert private not in text, name
        if name.endswith(".html"):
            assert html_faults(text) == [], name
            for link in links(text):
                assert link.startswith("#") or (folder / name).parent.joinpath(unquote(link)).is_file(), (name, link)
                assert not re.match(r"/|[a-z]+:", link), link


def test_a_sweep_becomes_a_folder_with_pages_tables_and_figures(tmp_path: Path, cli: Cli, sweep: Path) -> None:
    code, out, err = cli("monday", "site")
    site = tmp_path / "site"
    assert (code, err) == (0, [])
    assert out[0].startswith("Page    site/index.html (")
    assert out[1] == "Browse  python -m http.server --directory site"
    check_pages(site, str(tmp_path))
    assert sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()) == [
        "export.json", "figures/curves.png", "index.html", "jobs/0/figures/channels/1.png", "jobs/0/index.html",
        "jobs/0/ranking.csv", "rankings.csv", "summary.csv",
    ]  # fmt: skip
    page = (site / "index.html").read_text()
    assert "<h1>Sweep over layer, data.root</h1>" in page.replace("class_name, ", "")
    assert "Job 1 has no result: there must be images; got none in 1." in page
    assert "Job 2 has no result: there is no result: the process was killed" in page
    assert "pcace run --multirun layer=conv1,conv2,conv3" in page
    assert pd.read_csv(site / "summary.csv").status.tolist() == ["finished", "failed", "failed"]
    assert "data.root=0" in (site / "jobs" / "0" / "index.html").read_text()
    assert not list(tmp_path.glob(".site*"))
    assert (site.stat().st_mode & 0o777) == 0o777 & ~umask()


def umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def test_a_network_keeps_the_reports_of_its_layers(tmp_path: Path, cli: Cli) -> None:
    run_dir, names = tmp_path / "outputs" / "runs" / "net", ["conv1", "block 2.#a?%41"]
    found = network_ranking([[0.1, 0.5], [0.4, 0.2]], names=names)
    run_dir.mkdir(parents=True)
    content = network_pages.content(found, tmp_path)
    content = replace(content, reports={name: report_address(layer_folder(run_dir, name).name) for name in names})
    (run_dir / "network.html").write_text(render_network(content))
    found.save(run_dir)
    for name in names:
        folder = layer_folder(run_dir, name)
        folder.mkdir(parents=True)
        (folder / "report.html").write_text(REPORT)
        (folder / "ranking.csv").write_text("rank\n1\n")
    code, _, err = cli("net", "site")
    assert (code, err) == (0, [])
    check_pages(tmp_path / "site", str(tmp_path))
    assert sorted(name for name in texts(tmp_path / "site") if "/" not in name) == [
        "export.json", "index.html", "layers.csv", "network.csv", "not_ranked.csv",
    ]  # fmt: skip
    report = (layer_folder(tmp_path / "site", names[1]) / "report.html").read_text()
    assert links(report) == ["ranking.csv", "../../index.html"]


def test_the_folder_of_an_export_is_replaced_by_a_later_one_only(tmp_path: Path, cli: Cli, sweep: Path) -> None:
    assert cli("last", "site")[0] == 0
    (sweep / "0" / "figures" / "channels" / "1.png").unlink()
    assert cli(str(sweep), "site")[0] == 0
    assert not (tmp_path / "site" / "jobs" / "0" / "figures").exists()
    (tmp_path / "site" / "CNAME").write_text("example.org")
    before = texts(tmp_path / "site")
    expected = (
        "error: the folder of an export must be new, empty or that of an earlier export; got site with CNAME. "
        "Choose another folder."
    )
    assert cli("last", "site") == (1, [], [expected])
    assert texts(tmp_path / "site") == before
    (tmp_path / "file").write_text("")
    expected = "error: an export must be written into a folder; got the file file. Choose another folder."
    assert cli("last", "file") == (1, [], [expected])
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert cli("last", "link")[0] == 0
    assert (tmp_path / "empty" / "index.html").is_file()
    assert (tmp_path / "link").is_symlink()


def test_an_export_that_fails_leaves_nothing(
    tmp_path: Path, cli: Cli, sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    expected = (
        "error: the folder of an export must be writable; got site (No space left on device). Choose another folder."
    )
    assert cli("last", "site") == (1, [], [expected])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]


def test_what_cannot_be_exported_is_refused(tmp_path: Path, cli: Cli, sweep: Path) -> None:
    start = "error: export must be given the folder or the name of a sweep, or of a run with a report, or last; got "
    latest = f"Latest in {tmp_path / 'outputs'}: monday."
    assert cli("tuesday", "site") == (1, [], [f"{start}tuesday. {latest}"])
    (tmp_path / "outputs" / "runs" / "stopped").mkdir(parents=True)
    assert cli("stopped", "site") == (1, [], [f"{start}stopped. {latest}"])
    usage = "error: export must have a run or a sweep and a folder; got {}. See pcace export --help."
    assert cli("last") == (1, [], [usage.format("last")])
    assert cli("last", "site", "layer=conv1") == (1, [], [usage.format("last site layer=conv1")])
    shutil.rmtree(sweep / "0")
    expected = "error: export must be given a sweep with a finished job; got monday. "
    assert cli("last", "site") == (1, [], [f"{expected}Finish it: pcace run --resume monday"])
    elsewhere = sweep.rename(tmp_path / "a sweep")
    expected = "error: export must be given a sweep with a finished job; got a sweep. "
    assert cli("a sweep", "site") == (1, [], [f"{expected}Finish it: pcace run --resume '{elsewhere}'"])
    assert not (tmp_path / "site").exists()
