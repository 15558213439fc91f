"""The result of `pcace.rank`: tables, HTML, figures, the report, saved rankings, and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot
from torch import nn

import pcace


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(432, 3))


@pytest.fixture(scope="module")
def ranking(network: nn.Module, images: torch.Tensor) -> pcace.Ranking:
    names = ["cat", "<b>dog</b>", "ship"]
    return pcace.rank(
        network, images, "0", 1, permutations=20, bootstrap=20, folds=2, class_names=names,
        settings={"visualize.maximize_steps": 4},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    pyplot.close("all")


class Tags(HTMLParser):
    """The names of all tags, and the sources of images."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_frame_has_the_columns_of_the_file(ranking: pcace.Ranking, tmp_path: Path) -> None:
    saved = pd.read_csv(ranking.save(tmp_path / "saved") / "ranking.csv")
    frame = ranking.to_frame()
    assert list(saved) == list(frame)
    assert saved.channel.tolist() == frame.channel.tolist() == ranking.channels
    frame["score"] = 0
    assert (ranking.to_frame().score > 0).all()  # a copy was changed


def test_the_html_is_static_and_escaped(ranking: pcace.Ranking) -> None:
    page = ranking._repr_html_()
    found = Tags(page)
    assert "script" not in found.tags
    assert "b" not in found.tags
    assert "&lt;b&gt;dog&lt;/b&gt;" in page
    assert found.tags.count("tr") == 11
    assert len(found.sources) == 1
    assert found.sources[0].startswith("data:image/png;base64,")
    assert all(sentence in page for sentence in map(str, ranking.sentences[:1]))
    assert len(page) < 200_000


def test_the_text_begins_with_the_sentences(ranking: pcace.Ranking) -> None:
    lines = str(ranking).splitlines()
    assert lines[0] == "Channels of 0 (Sequential) ranked for class <b>dog</b> by 40 images."
    assert lines[1 : 1 + len(ranking.sentences)] == ranking.sentences
    assert lines[-1] == "... of 12 channels."
    best = ", ".join(map(str, ranking.channels[:5]))
    assert repr(ranking) == (
        f"<Ranking of the 12 channels of 0 (Sequential) for class <b>dog</b>, 40 images; best: {best}>"
    )


def test_the_curve_has_one_point_per_channel(ranking: pcace.Ranking) -> None:
    axes = ranking.plot()
    assert axes.get_xlabel() == "rank"
    assert [pyplot.figure(number) for number in pyplot.get_fignums()] == [axes.figure]
    given = pyplot.figure().add_subplot()
    assert ranking.plot(given) is given
    scores = ranking.to_frame().score.tolist()
    assert any(list(line.get_ydata()) == scores for line in given.lines)  # type: ignore[arg-type]
    assert given.get_legend() is not None


def test_the_maps_are_those_of_the_channel(ranking: pcace.Ranking) -> None:
    channel = ranking.channels[-1]
    shown = [axes.images[0].get_array() for axes in ranking.plot_maps(channel, images=[3, 5]) if axes.images]
    maps = ranking.activations.maps[channel]
    assert [image.shape for image in shown] == [(8, 8), (8, 8), (6, 6), (6, 6)]
    for found, expected in zip(shown[2:], maps[[3, 5]], strict=True):
        np.testing.assert_array_equal(np.asarray(found), expected)
    driving = int(maps.mean(axis=(1, 2)).argmax())
    first = next(
        axes for axes in ranking.plot_maps(channel) if axes.images and axes.images[0].get_array().shape == (6, 6)
    )
    np.testing.assert_array_equal(np.asarray(first.images[0].get_array()), maps[driving])
    assert len(ranking.plot_maps([0, 1], images=[2], overlay=True)) > 0


def test_the_pictures_are_the_inputs(ranking: pcace.Ranking, images: torch.Tensor) -> None:
    shown = ranking.plot_maps(0, images=[7])[0].images[0].get_array()
    np.testing.assert_array_equal(np.asarray(shown), (images[7, 0] * 255).round().byte().numpy())


def test_the_transforms_are_those_of_the_channel(ranking: pcace.Ranking) -> None:
    assert ranking.scores.fit is not None
    axes = ranking.plot_transforms(3)
    points = axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(np.asarray(points)[:, 1], ranking.scores.fit.phi[3, :, 0])
    assert len(axes) == ranking.scores.fit.phi.shape[2] + 1


def test_channels_and_images_that_do_not_exist_are_named(ranking: pcace.Ranking) -> None:
    cases: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: ranking.plot_maps(12), "channels must be in [0, 11]; got 12 (layer '0')."),
        (lambda: ranking.plot_maps(0, images=[-1]), "images must be in [0, 39]; got -1 (layer '0')."),
        (lambda: ranking.plot_transforms(40), "channel must be in [0, 11]; got 40 (layer '0')."),
    )
    for draw, message in cases:
        with pytest.raises(pcace.PipelineError) as caught:
            draw()
        assert str(caught.value) == message


def test_the_report_is_one_page_without_a_network_connection(ranking: pcace.Ranking, tmp_path: Path) -> None:
    page = ranking.report(tmp_path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert all(source.startswith(("data:", "#")) for source in Tags(page).sources)
    assert "Scores by rank" in page or "rank" in page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_saved_ranking_is_read_with_everything(ranking: pcace.Ranking, tmp_path: Path) -> None:
    folder = ranking.save(tmp_path / "saved")
    assert ranking.save(folder) == folder  # replaces the earlier one
    loaded = pcace.load(folder)
    assert isinstance(loaded, pcace.Ranking)
    pd.testing.assert_frame_equal(loaded.to_frame(), ranking.to_frame(), check_exact=True)
    assert loaded.sentences == ranking.sentences
    assert loaded.settings == ranking.settings
    assert loaded._repr_html_() == ranking._repr_html_()
    assert loaded.report(tmp_path / "a.html").read_text() == ranking.report(tmp_path / "b.html").read_text()


def test_a_folder_with_something_else_is_not_replaced(ranking: pcace.Ranking, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(pcace.PipelineError) as caught:
        ranking.save(tmp_path)
    assert str(caught.value) == (
        f"the folder of a saved ranking must be new, empty or that of an earlier one; got {tmp_path}. "
        "Choose another folder."
    )
    with pytest.raises(
        pcace.PipelineError, match=r"^folder must contain a ranking that Ranking.save has written; got "
    ):
        pcace.load(tmp_path)


def test_a_ranking_by_another_ranker_has_no_transforms(network: nn.Module, images: torch.Tensor) -> None:
    ranking = pcace.rank(network, images, "0", 1, ranker="pearson", bootstrap=0)
    with pytest.raises(pcace.PipelineError) as caught:
        ranking.plot_transforms()
    assert str(caught.value) == (
        'the ranker must be ace for a figure of the transforms; got pearson. Rank with ranker="ace".'
    )
    assert ranking.report is not None


def test_rankings_are_compared(ranking: pcace.Ranking, network: nn.Module, images: torch.Tensor) -> None:
    other = pcace.rank(network, images, "0", 1, ranker="pearson", bootstrap=0)
    found = pcace.compare(ranking, other, ranking, top=3)
    frame = found.to_frame()
    assert len(frame) == 3
    assert frame.spearman[1] == 1
    assert frame.top.tolist() == [3, 3, 3]
    assert repr(found).splitlines()[1].split() == list(frame)  # no columns are left out
    first, second = ranking.to_frame().set_index("channel")["rank"], other.to_frame().set_index("channel")["rank"]
    assert frame.spearman[0] == pytest.approx(first.corr(second, method="spearman"))
    assert found.plot().get_ylabel() == "rank"
    assert len(found.plot_agreement()) >= 4
    assert "script" not in Tags(found._repr_html_()).tags
    assert pcace.compare(ranking, other).labels == ("ace, class <b>dog</b>", "pearson, class 1")


def test_rankings_of_different_layers_are_not_compared(
    ranking: pcace.Ranking, network: nn.Module, images: torch.Tensor
) -> None:
    other = pcace.rank(network, images, "3", 1, ranker="pearson", bootstrap=0, n_components=1)
    with pytest.raises(pcace.PipelineError) as caught:
        pcace.compare(ranking, other)
    assert str(caught.value) == (
        "rankings must be of the same channels; got 0 (12 channels) and 3 (3 channels). "
        "Channels of different layers do not correspond to each other."
    )


def test_layers_are_listed_for_images_and_for_a_shape(network: nn.Module, images: torch.Tensor) -> None:
    found = pcace.layers(network, images)
    assert found.layer.tolist() == ["0", "1", "2", "3"]
    assert list(found.iloc[0]) == ["0", "Conv2d", 12, 6, 6]
    pd.testing.assert_frame_equal(pcace.layers(network, (1, 8, 8)), found)
    pd.testing.assert_frame_equal(pcace.layers(network, images[:1]), found)
    assert pcace.layers(network, images, rankable_only=False).rejection.tolist() == [""] * 4
