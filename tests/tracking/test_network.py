"""Rankings of whole networks: the page with its links, the logged runs, and their comparison."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from scipy import stats

from pipeline import compare, reproduce, ui
from pipeline.artifacts import NetworkRanking
from pipeline.config import compose_settings
from pipeline.errors import NetworkError, SettingsError
from pipeline.network_report import NetworkReportWriter
from pipeline.observer import NetworkResult
from pipeline.report_writer import ReportWriter
from pipeline.tracking.connection import tracking_uri
from pipeline.tracking.names import network_metrics
from pipeline.tracking.network import NetworkTracker
from pipeline.tracking.provenance import load_provenance
from pipeline.whole_network import run_network
from tests.helpers.html import html_faults, links
from tests.helpers.network_rankings import MISSING, network_ranking
from tests.helpers.settings import Compose
from tests.helpers.tracking import logged_runs

pytestmark = pytest.mark.slow
Ranked = Callable[[str], NetworkResult]


@pytest.fixture
def ranked(compose: Compose, tracked: Path, tmp_path: Path) -> Ranked:
    """A function that ranks two layers for a class, writes the page, and logs the runs."""

    def rank(class_name: str) -> NetworkResult:
        settings = compose(
            "tracking.enabled=true", "layer=[conv1,conv2]", f"class_name={class_name}", "ablate.when=never",
            f"paths.outputs={tracked}", "score.permutations=20", "score.bootstrap=20",
        )  # fmt: skip
        observers = [ReportWriter("x"), NetworkReportWriter("pcace layer=all"), NetworkTracker({"sweep": "monday"})]
        return run_network(settings, tmp_path / class_name, observers)

    return rank


@pytest.mark.usefixtures("blank_figures")
def test_a_network_has_a_page_and_runs_that_can_be_compared(
    ranked: Ranked, tmp_path: Path, tracked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [ranked("8"), ranked("3")]
    result = results[0]
    ranking = result.ranking
    page = (result.run_dir / "network.html").read_text(encoding="utf-8")
    assert html_faults(page) == []
    assert ranking.sentences[0] in page
    reports = [link for link in links(page) if not link.startswith("#")]
    assert set(reports) == {"layers/conv1/report.html", "layers/conv2/report.html"}
    for link in reports:
        target = result.run_dir / unquote(link)
        back = [each for each in links(target.read_text(encoding="utf-8")) if not each.startswith("#")]
        assert [(target.parent / each).resolve() for each in back] == [result.run_dir / "network.html"]
    assert page.count("<figure>") == 3
    assert page.count('class="run"') == 12  # the best channels with their pictures
    figures = {path.name for path in (result.run_dir / "figures").iterdir()}
    assert figures == {
        "best_channels.png", "layer_association.png", "layer_distributions.png", "network_channels.png",
    }  # fmt: skip

    client = MlflowClient(tracking_uri(tracked, None))
    runs = logged_runs(client, order_by=["attributes.start_time"])
    assert [run.info.status for run in runs] == ["FINISHED"] * 6
    assert [run.info.run_name for run in runs[:3]] == [
        f"{start}, 20 images, 1 component, digits_cnn, seed 0"
        for start in ("network penalised conv1,conv2 class 8", "penalised conv1 class 8", "penalised conv2 class 8")
    ]
    network, *layers = runs[:3]
    assert [run.data.tags.get("network") for run in runs[:3]] == [None, *[network.info.run_id] * 2]
    assert [run.data.tags.get("sweep") for run in runs[:3]] == ["monday", None, None]
    assert network.data.tags["mlflow.note.content"] == "\n\n".join(ranking.sentences)
    for run, row in zip(layers, ranking.layers.to_dict("records"), strict=True):
        assert run.data.params["layer"] == row["layer"]
        assert run.data.metrics["quality/reliability"] == row["reliability"]
    for name in ("association", "reliability"):
        history = client.get_metric_history(network.info.run_id, f"by_layer/{name}")
        assert [metric.value for metric in sorted(history, key=lambda metric: metric.step)] == ranking.layers[
            name
        ].tolist()
    logged = {file.path for file in client.list_artifacts(network.info.run_id)}
    whole = Path(client.download_artifacts(network.info.run_id, "network.html", str(tmp_path))).read_text(
        encoding="utf-8"
    )
    assert html_faults(whole) == []
    contained = {link: json.loads(whole.partition('id="reports">')[2].partition("<")[0])[link] for link in set(reports)}
    for link, report in contained.items():
        assert zlib.decompress(base64.b64decode(report)) == (result.run_dir / unquote(link)).read_bytes()
    assert {"network.html", "network.csv", "layers.csv", "ranking.json", "layers.json", "figures"} <= logged
    table = json.loads(Path(client.download_artifacts(network.info.run_id, "ranking.json", str(tmp_path))).read_text())
    assert table["columns"][:4] == ["rank", "layer", "channel", "bias_corrected"]
    assert [row[2] for row in table["data"]] == ranking.channels.channel.tolist()

    monkeypatch.setenv("PCACE_OUTPUTS", str(tracked))
    first, second = (each.ranking for each in results)
    pairs = first.channels.merge(second.channels, on=["layer", "channel"])
    own = pairs[pairs.layer == "conv2"]
    spearman = f"{stats.spearmanr(own.score_x, own.score_y).statistic:.3f}".replace("-", "−")
    for arguments in (
        ["--networks", "--last", "2"],
        ["--sweep", "last"],
        [runs[0].info.run_id, runs[3].info.run_id[:9]],
    ):
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        compare.main()
        out = capsys.readouterr().out.splitlines()
        assert out[:2] == ["1: class_name=8", "2: class_name=3"]
        *_, line = (line.split() for line in out if line.startswith("conv2 "))  # after the sentences
        association = [f"{each.layers.association[1]:.3f}".replace("-", "−") for each in (first, second)]
        assert (line[1], line[3], line[5]) == (*association, spearman)
        (written,) = (Path(line.split()[1]) for line in out if line.startswith("Page"))
        assert html_faults(written.read_text(encoding="utf-8")) == []
        assert {path.name for path in written.parent.iterdir()} == {"comparison.html", "layers.csv", "networks.png"}
    np.testing.assert_allclose(pd.read_csv(written.parent / "layers.csv")["association 2"], second.layers.association)

    for arguments, message in (
        (
            [runs[0].info.run_id, runs[1].info.run_id],
            "the compared runs must all be of single layers or all of networks; got 1 of 2 of networks. Choose runs of "
            "one kind.",
        ),
        (["--networks"], "runs must be given in one way (RUN RUN ..., --sweep ID or --last N); got 0 ways."),
        (
            ["--networks", "--sweep", "last"],
            "--networks must be used with --last N; got it without. Write --networks --last 2.",
        ),
    ):
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        with pytest.raises(SystemExit):
            compare.main()
        assert capsys.readouterr().err.splitlines() == [f"error: {message}"]
    shown = dict(ui.addresses(compose_settings([f"paths.outputs={tracked}"]), "http://here"))
    assert shown["latest network"].endswith(f"/runs/{runs[3].info.run_id}/artifacts/network.html")
    assert f"tags.network%20%3D%20%27{runs[3].info.run_id}%27" in shown["latest network, layers"]

    run_id = runs[0].info.run_id
    monkeypatch.setattr(sys, "argv", ["reproduce", run_id])
    with pytest.raises(SystemExit) as end:
        reproduce.main()
    assert end.value.code == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "The ranking of the network, 2 layers, is identical to the byte."
    assert not any("from the store" in line for line in out)  # all artifacts are computed again
    (again,) = (run for run in logged_runs(client) if run.data.tags.get("reproduces") == run_id)
    assert again.data.tags["reproduced"] == "identical to the byte"
    client.delete_run(runs[1].info.run_id)
    with pytest.raises(SettingsError) as caught:
        load_provenance(run_id, tracked, compose_settings([]).tracking)
    assert str(caught.value) == (
        f"RUN_ID must be a network with a finished run of each layer; got {run_id}, without the runs of conv1. Restore "
        "them in MLflow (tag network), or rank the network again."
    )


def test_a_network_without_such_layers_is_logged_as_failed(compose: Compose, tracked: Path, tmp_path: Path) -> None:
    settings = compose("tracking.enabled=true", "layer=[conv1,conv9]", f"paths.outputs={tracked}")
    with pytest.raises(NetworkError):
        run_network(settings, tmp_path / "run", [NetworkTracker()])
    (run,) = logged_runs(MlflowClient(tracking_uri(tracked, None)))
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("layer must be one of the network's layers; got 'conv9'.")


def test_the_metrics_of_a_network() -> None:
    ranking: NetworkRanking = network_ranking(
        [[0.1, 0.5], [0.9]], association=[0.2, 0.8], reliability=[MISSING, 0.9], not_ranked=["fc"]
    )
    found = network_metrics(ranking, 0)
    numbers = {metric.key: metric.value for metric in found if not metric.key.startswith("by_layer/")}
    assert numbers == pytest.approx(
        {
            "quality/association.best": 0.8, "quality/n_layers_reliable": 1, "quality/n_significant": 2,
            "quality/share_significant": 2 / 3,
            "score.penalised.bias_corrected/best": 0.9, "score.penalised.bias_corrected/median": 0.5,
            "size/n_layers": 2, "size/n_not_ranked": 1, "size/n_channels": 3,
        }
    )  # fmt: skip
    curves = {(metric.key, metric.step): metric.value for metric in found if metric.key.startswith("by_layer/")}
    assert curves["by_layer/association", 1] == 0.8
    assert curves["by_layer/penalised.bias_corrected.median", 0] == pytest.approx(0.3)
    assert ("by_layer/reliability", 0) not in curves
