"""The commands of the README, run in this process."""

from __future__ import annotations

import html
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from pipeline import console, layers
from pipeline.records import Record
from pipeline.resources import options
from pipeline.sweep import gather, summary
from tests.helpers.cli import Cli
from tests.helpers.faulty_server import misbehave
from tests.helpers.project import ROOT
from tests.helpers.servers import LOOPBACK, serving
from tests.helpers.settings import SMALL
from tests.helpers.tracking import logged_runs


@pytest.mark.usefixtures("tracked")
def test_a_run_prints_its_stages_the_best_channels_and_the_paths_of_its_results(cli: Cli, tmp_path: Path) -> None:
    run_dir = tmp_path / "here"
    code, out, err = cli(*SMALL, "tracking.enabled=true", f"hydra.run.dir={run_dir}")
    assert (code, err) == (0, [])
    assert out[0] == (
        "Which channels of conv1 (digits_cnn) matter for class 8? 20 images, 1 component, statistic penalised."
    )
    stages = ["download", "activate", "reduce", "score", "rank", "ablate", "evaluate", "visualize"]
    assert [line.split()[0] for line in out[1:9]] == stages
    table = pd.read_csv(run_dir / "ranking.csv")
    assert out[10].startswith("This ranking is not reliable: its split-half reliability is ")
    assert out[11].startswith(
        "Its estimated accuracy, the agreement with the ranking from an unlimited number of images, is "
    )
    assert out[13].startswith("The faithfulness is ")
    assert out[12] == f"{(table.q_value < 0.05).sum()} of 16 channels score above the permutation null (q < .05)."
    headings = ["rank", "channel", "score", "null mean", "q", "cross-fitted", "bias-corrected, 95 %", "rank, 95 %"]
    assert re.split(r" {2,}", out[15].strip()) == headings
    assert [line.split()[1] for line in out[16:26]] == [str(channel) for channel in table.channel.head(10)]
    assert out[26] == "... of 16 channels."
    drawn = (
        "activation_maps, activation_overlays, association_effect, cam, channel_weighted, faithfulness, "
        "ranking_curve, reliability, smoothness, transforms"
    )
    assert out[-5:] == [
        f"Ranking  {run_dir / 'ranking.csv'}",
        f"Effects  {run_dir / 'effects.csv'}",
        f"Report   {run_dir / 'report.html'}",
        f"Figures  {run_dir / 'figures'} ({drawn})",
        f"MLflow   pcace ui paths.outputs={tmp_path / 'outputs'}",
    ]
    command = shlex.join(["pcace", "run", *SMALL, "tracking.enabled=true", f"hydra.run.dir={run_dir}"])
    assert html.escape(command.partition(" hydra.run.dir")[0], quote=False) in (run_dir / "report.html").read_text()
    code, out, err = cli(*SMALL, "layer=conv1")
    assert (code, err) == (0, [])
    assert [line.endswith("from the store") for line in out[1:9]] == [True] * 8


@pytest.mark.usefixtures("tracked", "blank_figures")
def test_a_sweep_is_summarised_even_if_a_job_fails(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli(*SMALL, "tracking.enabled=true", "layer=conv1,conv9,conv2", "--multirun")
    assert code == 1
    assert len(err) == 1
    assert err[0].startswith("error: layer must be one of the network's layers; got 'conv9'.")
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    ranked = {path.parent.name: pd.read_csv(path) for path in sweep.glob("*/ranking.csv")}
    assert {name: table.layer.iloc[0] for name, table in ranked.items()} == {"0": "conv1", "2": "conv2"}

    start = max(index for index, line in enumerate(out) if line.split()[:2] == ["job", "question"])
    best = [str(channel) for channel in ranked["2"].channel.head(5)]
    assert out[start + 1].split()[:2] == ["0", "layer=conv1"]
    assert out[start + 2].split() == ["1", "layer=conv9", "failed", "0.0"]
    assert out[start + 3].split()[:7] == ["2", "layer=conv2", *best]
    assert out[start + 3].split()[-3:] == ["1", "of", "8"]
    assert out[start + 5] == "2 of 3 jobs finished."
    assert out[start + 6].startswith("Job 1 (layer=conv9) failed: layer must be one of the network's layers;")

    side_by_side = pd.read_csv(sweep / "rankings.csv")
    assert side_by_side["layer=conv1"].dropna().astype(int).tolist() == ranked["0"].channel.tolist()
    assert side_by_side["layer=conv2"].tolist() == ranked["2"].channel.tolist()

    client = MlflowClient(f"sqlite:///{tmp_path / 'outputs' / 'mlflow.db'}")
    runs = logged_runs(client)
    (summed_up,) = (run for run in runs if run.data.tags.get("summary_of") == sweep.name)
    assert (summed_up.data.metrics["n_jobs"], summed_up.data.metrics["n_failed"]) == (3, 1)
    names = {artifact.path for artifact in client.list_artifacts(summed_up.info.run_id)}
    assert {"summary.csv", "summary.json", "rankings.csv", "rankings.json", "curves.png"} <= names
    assert "agreement.png" not in names  # because no layer was ranked twice
    jobs = [run for run in runs if run.data.tags.get("sweep") == sweep.name]
    assert sorted(run.info.status for run in jobs) == ["FAILED", "FINISHED", "FINISHED"]


@pytest.mark.usefixtures("tracked", "blank_figures")
def test_a_ranking_is_lost_when_the_weights_of_its_layer_are_randomised(cli: Cli, tmp_path: Path) -> None:
    small = [override for override in SMALL if not override.startswith(("layer", "n_images", "visualize.maximize"))]
    code, out, err = cli(
        "--multirun", "experiment=randomized_weights", *small, "layer=conv3", "n_images=60", "score.permutations=0",
        "score.folds=0", "score.bootstrap=20", "tracking.enabled=true",
    )  # fmt: skip
    assert (code, err) == (0, [])
    questions = [line for line in out if line.startswith("Which channels of ")]
    randomized = ["", ", 1 module randomised", *(f", {n} modules randomised" for n in (2, 3, 4))]
    assert [line.partition(")")[0] for line in questions] == [
        f"Which channels of conv3 (digits_cnn{text}" for text in randomized
    ]
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    table = pd.read_csv(sweep / "summary.csv")
    assert table.question.tolist() == [f"model.randomized={n}" for n in range(5)]
    assert table.with_first[0] == pytest.approx(1)
    # The last convolution is randomised from the third job on. Of unrelated rankings of 64 channels, one in a thousand
    # has a Spearman correlation above .42.
    assert table.with_first[2:].abs().max() < 0.42
    assert table[["reliability", "faithfulness", "score_seconds"]].notna().all(axis=None)
    records = [record for folder in sorted(sweep.glob("*/")) if (record := Record.load(folder)) is not None]
    assert [record.reliability for record in records] == pytest.approx(table.reliability.tolist())
    assert [record.faithfulness for record in records] == pytest.approx(table.faithfulness.tolist())

    client = MlflowClient(f"sqlite:///{tmp_path / 'outputs' / 'mlflow.db'}")
    runs = logged_runs(client)
    (summed_up,) = (run for run in runs if run.data.tags.get("summary_of") == sweep.name)
    assert "agreement.png" in {artifact.path for artifact in client.list_artifacts(summed_up.info.run_id)}


@pytest.mark.usefixtures("blank_figures")
def test_rankers_are_compared_by_faithfulness_reliability_and_time_in_one_table(cli: Cli, tmp_path: Path) -> None:
    small = [override for override in SMALL if not override.startswith(("score.", "visualize.maximize"))]
    code, out, err = cli("--multirun", "experiment=compare_rankers", *small, "layer=conv2", "score.bootstrap=4")
    assert (code, err) == (0, [])
    rankers = ["ace", *sorted(set(options("score")) - {"ace"})]
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    table = pd.read_csv(sweep / "summary.csv").set_index("question")
    assert sorted(table.index) == sorted(f"score={kind}" for kind in rankers)
    assert table.index[0] == "score=ace"
    assert table[["reliability", "faithfulness", "with_first", "score_seconds"]].notna().all(axis=None)
    assert table.faithfulness["score=ablation"] == pytest.approx(1)
    # Images, activations and the effects of ablation are computed once, by the first job.
    assert all({"activate", "reduce", "ablate"} <= set(stages.split()) for stages in table.from_store[1:])
    (heading,) = (line for line in out if line.startswith("job"))
    assert {"reliability", "faithfulness", "score"} <= set(heading.split())


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize(("dirty", "n_notes"), [("true", 1), ("false", 0)])
def test_uncommitted_changes_are_noted(cli: Cli, monkeypatch: pytest.MonkeyPatch, dirty: str, n_notes: int) -> None:
    monkeypatch.setattr(console, "git_state", lambda: {"git_commit": "0123", "git_dirty": dirty})
    _, out, _ = cli(*SMALL)
    note = "Note: the code has uncommitted changes, which the logged commit does not contain."
    assert out.count(note) == n_notes


def test_the_summary_reports_a_job_that_was_killed(tmp_path: Path) -> None:
    for number, record in enumerate([Record("failed", "out of memory.", ["layer=conv1", "seed=1"]), None]):
        (tmp_path / str(number)).mkdir()
        if record is not None:
            record.save(tmp_path / str(number))
    table = summary(gather(tmp_path))
    assert table.question.tolist() == ["layer=conv1 seed=1", "job 1"]
    lost = "there is no result: the process was killed, or is still running; see run.log, or the log of the launcher"
    assert table.error.tolist() == ["out of memory.", lost]


@pytest.mark.usefixtures("blank_figures")
def test_a_sweep_over_five_pca_sizes_downloads_and_activates_once(cli: Cli, tmp_path: Path) -> None:
    overrides = [override for override in SMALL if not override.startswith("n_components")]
    code, _, err = cli("--multirun", "experiment=pca_sizes", *overrides)
    assert (code, err) == (0, [])
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    records = [record for folder in sorted(sweep.glob("*/")) if (record := Record.load(folder)) is not None]
    assert len(records) == 5
    computed = Counter(name for record in records for name, had in record.from_store.items() if not had)
    once = dict.fromkeys(("download", "activate", "ablate"), 1)
    assert computed == once | dict.fromkeys(("reduce", "score", "rank", "evaluate", "visualize"), 5)
    store = tmp_path / "outputs" / "store"
    assert {name: len(list((store / name).iterdir())) for name in computed} == computed


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["layer=conv4"], "error: layer must be one of the network's layers; got 'conv4'. Nearest: conv3"),
        (["class_name=ten"], "error: class_name must be one of the network's 10 classes; got 'ten'."),
        (["model=resnet19"], "error: model must be one of cifar10_resnet20, "),
        (["n_images=175"], "error: n_images must be at most 174; got 175 (class '8' of scikit-learn's digits)."),
        (["layer=conv3", "n_images=100", "n_components=65"], "error: n_components must be in [1, 64]; got 65 ("),
        (
            ["layer=classifier", "n_components=2"],
            "error: n_components must be in [1, 1]; got 2 (20 images, maps of 1 x 1",
        ),
        (
            ["layer=[conv1,conv4]"],
            "error: layer must be one of the network's layers; got 'conv4'. Nearest: conv3, conv2, conv1. `pcace",
        ),
        (
            ["layer=features*"],
            "error: layer must match layers of the network; got the pattern 'features*', which matches none. Nearest",
        ),
        (
            ["data.images_from=all", "target=regression", "target.output=10"],
            "error: target.output must be in [0, 9]; got 10.",
        ),
        (["layer=conv1,conv2"], "error: layer must be one value; got conv1,conv2. For several, run a sweep: --mult"),
        (["n_images=[3"], "error: every argument must have the form setting=value; got n_images=[3 ("),
        (["model.checkpoint=none.pth"], "error: model.checkpoint must be an existing file; got none.pth. Give"),
        (["data=folder", "data.root=nowhere"], "error: data.root must be an existing folder; got nowhere. "),
    ],
)
def test_every_refusal_is_one_line_and_leaves_no_files(
    cli: Cli, tmp_path: Path, arguments: list[str], start: str
) -> None:
    code, _, err = cli(*SMALL, *arguments)
    assert code == 1
    assert len(err) == 1
    assert err[0].startswith(start)
    assert not list(tmp_path.rglob("store/*/*"))
    assert not list(tmp_path.rglob("ranking*"))


def test_each_of_several_faults_is_one_line(cli: Cli) -> None:
    code, out, err = cli("n_imgs=3", "n_components=0", "score.statistic=best")
    assert (code, out) == (1, [])
    assert err == [
        "error: n_components must be a whole number of at least 1, a share of the variance in (0, 1), or auto; got 0.",
        "error: score.statistic must be 'maximal', 'first' or 'penalised'; got \"best\".",
        "error: n_imgs must be a known setting; got 3. Did you mean n_images?",
    ]


def test_a_run_with_failed_addresses_prints_their_number_and_the_path_of_the_report(cli: Cli, tmp_path: Path) -> None:
    run_dir = tmp_path / "here"
    with serving(misbehave) as server:
        listed = [f"{server.url}/{'page' if index % 4 == 2 else 'good'}/{index}.jpg" for index in range(30)]
        (tmp_path / "CLASS.txt").write_text("\n".join(listed))
        overrides = ("data=urls", f"data.file={tmp_path / 'CLASS.txt'}", LOOPBACK, "model.transform.kind=resize")
        code, out, err = cli(*SMALL, *overrides, f"hydra.run.dir={run_dir}")
    assert (code, err) == (0, [])
    assert " ".join(out[1].split()[:-2]) == "download 20 images of 40 x 36 pixels (6 addresses failed)"
    assert f"Images   {run_dir / 'download_report.csv'} (every address)" in out
    report = pd.read_csv(run_dir / "download_report.csv")
    assert report.reason.dropna().tolist() == ["not an image (a web page)"] * 6
    # The server has stopped, so the second run succeeds only if it sends no requests.
    code, out, err = cli(*SMALL, *overrides)
    assert (code, err) == (0, [])
    assert [line.endswith("from the store") for line in out[1:9]] == [True] * 8


def test_both_spellings_of_a_layer_are_accepted(cli: Cli) -> None:
    for layer in ("layer4[1].conv9", "layer4.1.conv9"):
        resnet = ("model=resnet18", "model.weights=random", "target_class=8", f"layer={layer}")
        code, _, err = cli(*SMALL, *resnet, "class_name=8")
        assert code == 1
        assert err[0].startswith("error: layer must be one of the network's layers; got 'layer4.1.conv9'. Nearest: ")
        assert "layer4.1.conv2" in err[0]


def test_the_layers_of_a_network_are_listed(cli: Cli) -> None:
    code, out, err = cli("model=vgg16", main=layers.main)
    assert (code, err) == (0, [])
    assert out[0].split() == ["layer", "type", "channels", "map", "output"]
    assert ["features.0", "Conv2d", "64", "224", "x", "224"] in [line.split()[:6] for line in out]
    assert ["features.28", "Conv2d", "512", "14", "x", "14"] in [line.split()[:6] for line in out]
    # Overrides of the data and the target are ignored, even if they are not possible.
    overrides = ("data=folder", "data.root=nowhere", "class_name=cat", "n_images=300", "target=regression")
    assert cli(*overrides, main=layers.main)[:2] == cli(main=layers.main)[:2]
    code, _, err = cli("model=torchvision", "model.name=vgg61", main=layers.main)
    assert code == 1
    assert err[0].startswith("error: model.name must be a torchvision classification model; got 'vgg61'. Nearest: vgg1")


def test_the_value_of_a_flag_is_not_taken_for_an_override(cli: Cli) -> None:
    code, out, err = cli("--cfg", "job", "layer=conv2", "--package", "data")
    assert (code, err) == (0, [])
    assert out[:3] == ["# @package data", "source: digits", "select: first"]
    code, out, err = cli("nonsense")
    assert (code, out, len(err)) == (1, [], 1)
    assert err[0].startswith("error: every argument must have the form setting=value; got nonsense (")


def test_the_help_shows_the_main_settings_the_groups_and_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for name in ("layer=", "class_name=", "target_class=", "n_images=", "n_components=", "seed="):
        assert f"\n  {name}" in done.stdout.replace("    ", "  ")
    for group in ("model", "data", "score", "visualize", "tracking", "engine", "experiment"):
        assert f"{group}: " in done.stdout
    assert done.stdout.count("pcace run ") >= 4
    heavy = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import pipeline.__main__"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in heavy.stderr.splitlines()}
    assert not loaded & {"torch", "mlflow", "matplotlib", "sklearn", "pandas"}
