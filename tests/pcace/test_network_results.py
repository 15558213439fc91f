"""What a ranking of a network in memory shows: figures, pages, HTML, saved folders, and comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from matplotlib.collections import PathCollection
from torch import nn

import pcace
from pcace import _network_ranking
from pipeline.artifacts import NetworkRanking as Tables
from pipeline.network_comparison import compare_networks
from tests.helpers.html import html_faults, links

IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
QUICK: dict[str, Any] = {
    "permutations": 4, "bootstrap": 4, "folds": 2, "progress": False, "n_jobs": 1,
    "settings": {"ablate.when": "never", "visualize.maximize_steps": 2, "visualize.n_maximized": 1},
}  # fmt: skip


def made(seed: int = 0, width: int = 6) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, width, 3), nn.ReLU(), *head)


@pytest.fixture(scope="module")
def network() -> pcace.NetworkRanking:
    return pcace.rank(made(), IMAGES, ["0", "2"], 1, **QUICK)


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    pyplot.close("all")


def test_figures_are_drawn_into_new_figures_of_pyplot(network: pcace.NetworkRanking) -> None:
    axes = network.plot()
    drawn = np.concatenate([each.get_offsets() for each in axes.collections if isinstance(each, PathCollection)])
    table = network.to_frame()
    np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort(table.bias_corrected))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "2"]
    _, reliability, share = network.plot_distributions()
    widths = [patch.get_width() for patch in share.patches]
    np.testing.assert_allclose(widths, network.layers.share_significant)
    np.testing.assert_allclose([patch.get_width() for patch in reliability.patches], network.layers.reliability)
    line = next(line for line in network.plot_association().lines if line.get_zorder() == 2)
    np.testing.assert_array_equal(line.get_xydata(), network.layers[["depth", "association"]])
    best = network.plot_best_channels(3)
    first = table.iloc[0]
    assert best[0].get_title(loc="left").startswith(f"1. {first.layer}, channel {first.channel}\n")
    assert len(best) == 3
    assert len(pyplot.get_fignums()) == 4
    with pytest.raises(pcace.PipelineError) as caught:
        network.plot_best_channels(11)
    assert str(caught.value) == "n_channels must be in [1, 10], the channels that vary; got 11."


def test_the_page_leads_to_a_report_of_each_layer_and_back(network: pcace.NetworkRanking, tmp_path: Path) -> None:
    page = network.report(tmp_path / "cat & dog.html")
    text = page.read_text(encoding="utf-8")
    assert html_faults(text) == []
    assert all(sentence in unescape(text) for sentence in network.sentences)
    assert text.count("<figure>") == 3
    assert text.count('class="run"') == 10
    reports = {link for link in links(text) if not link.startswith("#")}
    assert reports == {"cat%20%26%20dog_layers/0.html", "cat%20%26%20dog_layers/2.html"}
    for link in reports:
        target = tmp_path / unquote(link)
        report = target.read_text(encoding="utf-8")
        assert html_faults(report) == []
        (back,) = (each for each in links(report) if not each.startswith("#"))
        assert (target.parent / unquote(back)).resolve() == page
        assert "at full size" not in report  # there is no folder with figures beside it
        assert "found by gradient ascent" in report
        assert '<th scope="row" class="text"><code>permutations</code></th><td class="text">4</td>' in report
    assert {path.name for path in tmp_path.iterdir()} == {page.name, "cat & dog_layers"}


def test_the_html_and_the_text_show_layers_and_best_channels(
    network: pcace.NetworkRanking, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = network._repr_html_()
    assert "<script" not in page
    assert page.count("<img ") == 1
    assert page.count("<tr") == 2 + 2 + 10  # with headings
    assert all(sentence in unescape(page) for sentence in network.sentences)
    monkeypatch.setattr(_network_ranking, "MAX_LAYERS", 1)
    lines = str(network).splitlines()
    assert "The 1 of 2 layers with the largest association; the attribute layers has all." in lines
    best = network.layers.sort_values("association").layer.iloc[-1]
    (row,) = (line for line in lines if " Conv2d " in line)
    assert row.split()[0] == best


def test_a_saved_network_is_loaded_with_its_layers(network: pcace.NetworkRanking, tmp_path: Path) -> None:
    folder = network.save(tmp_path / "saved")
    loaded = pcace.load(folder)
    assert isinstance(loaded, pcace.NetworkRanking)
    assert repr(loaded) == repr(network)
    assert list(loaded) == ["0", "2"]
    assert len(loaded) == 2
    pd.testing.assert_frame_equal(loaded.to_frame(), network.to_frame(), check_exact=True)
    pd.testing.assert_frame_equal(loaded["2"].to_frame(), network["2"].to_frame(), check_exact=True)
    assert isinstance(loaded["2"].activations.maps, np.memmap)
    assert loaded["0"]._pictures is loaded["2"]._pictures
    with pytest.raises(KeyError):
        loaded["1"]
    alone = pcace.load(folder / "layers" / "2")
    assert isinstance(alone, pcace.Ranking)
    assert alone.channels == network["2"].channels
    pages = [each.report(tmp_path / name / "network.html") for name, each in (("a", network), ("b", loaded))]
    for name in ("network.html", "network_layers/0.html", "network_layers/2.html"):
        first, second = (page.parent / name for page in pages)
        assert first.read_bytes() == second.read_bytes()

    pcace.rank(made(), IMAGES, ["0"], 1, **QUICK).save(folder)  # replaces it
    assert [path.name for path in (folder / "layers").iterdir()] == ["0"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(pcace.PipelineError) as caught:
        network.save(tmp_path / "other")
    assert str(caught.value) == (
        f"the folder of a saved ranking must be new, empty or that of an earlier one; got {tmp_path / 'other'}. "
        "Choose another folder."
    )
    (folder / "network.parquet").unlink()
    with pytest.raises(pcace.PipelineError, match=r"^folder must contain a ranking that .*Give the folder itself\.$"):
        pcace.load(folder)


def test_networks_are_compared_as_on_the_command_line(network: pcace.NetworkRanking, tmp_path: Path) -> None:
    others = [
        pcace.rank(made(), IMAGES, ["0", "2"], 2, **QUICK),  # another class
        pcace.rank(made(seed=1), IMAGES, ["0", "2"], 1, **QUICK),  # other weights
    ]
    tables = [Tables.load(each.save(tmp_path / str(place))) for place, each in enumerate((network, *others))]
    found = pcace.compare(network, *others)
    assert isinstance(found, pcace.NetworkComparison)
    assert found.labels == ("class 1, network 1", "class 2, network 2", "class 1, network 3")
    expected = compare_networks(tables, found.labels)
    pd.testing.assert_frame_equal(found.to_frame(), expected.table, check_exact=True)
    assert found.sentences == list(expected.sentences)
    assert found.to_frame().part.tolist() == ["0", "2"]
    assert found.layers.network.unique().tolist() == list(found.labels)
    np.testing.assert_array_equal(found.layers.association, expected.layers.association)
    assert found.sentences[0] in repr(found)
    assert found._repr_html_().count("<img ") == 1
    assert len(found.plot()) == 3
    assert pcace.compare(network, others[0]).labels == ("class 1", "class 2")
    assert pcace.compare(network, others[0], labels=["a", "b"]).labels == ("a", "b")


def test_networks_of_one_class_with_other_layers_are_compared_by_depth(network: pcace.NetworkRanking) -> None:
    """In Python, networks have the names of their classes, here Sequential."""
    deeper = pcace.rank(nn.Sequential(*made(width=4).children(), nn.Identity()), IMAGES, "*", 1, **QUICK)
    assert "0" in deeper
    found = pcace.compare(network, deeper)
    assert found.to_frame().part.tolist()[0] == "depth 0.0 to 0.2"
    assert found.layers.spearman.isna().all()


def test_networks_and_layers_are_not_compared(network: pcace.NetworkRanking) -> None:
    with pytest.raises(pcace.PipelineError) as caught:
        pcace.compare(network, network["0"])  # type: ignore[call-overload]
    assert str(caught.value) == (
        "rankings must be all of one layer or all of networks; got 1 of networks and 1 of one layer. Take a layer of a "
        "network: network[layer]."
    )
