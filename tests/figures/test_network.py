"""The figures of a whole network show the values of its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from pipeline.figures.gallery import draw_card
from pipeline.figures.network import draw_association, draw_channels, draw_layer_distributions
from pipeline.figures.network_channels import draw_best_channels, pictured, stored_map
from pipeline.figures.style import paper_style, save_png
from tests.figures.drawn import drawn_texts, faults
from tests.helpers.network_pages import gallery_of
from tests.helpers.network_rankings import MISSING, large_network, network_ranking

SIZES = [(1, 60), (3, 112), (60, 10_000)]


def texts(figure: Figure) -> set[str]:
    return {each.text for each in drawn_texts(figure)}


@pytest.mark.parametrize(("n_layers", "n_channels"), SIZES)
def test_every_channel_is_a_mark_at_its_score_and_those_that_stand_out_have_another_one(
    n_layers: int, n_channels: int
) -> None:
    ranking = large_network(n_layers, n_channels)
    with paper_style():
        figure = draw_channels(ranking)
    (axes,) = figure.axes
    marks = [each for each in axes.collections if isinstance(each, PathCollection)]
    channels = ranking.channels
    for stands_out, collections in ((True, marks[0::2]), (False, marks[1::2])):
        for place, drawn in enumerate(collections):
            own = channels[(channels.position == place) & ((channels.q < 0.05) == stands_out)].sort_values("channel")
            points = np.asarray(drawn.get_offsets())
            np.testing.assert_array_equal(points[:, 0], own.bias_corrected)
            low, high = (-0.5, 0.0) if stands_out else (0.0, 0.5)  # upper and lower half of the row of the layer
            assert ((points[:, 1] > place + low) & (points[:, 1] < place + high)).all()
    assert len(marks) == 2 * n_layers
    n_corners = [len(np.asarray(mark.get_paths()[0].vertices)) for mark in marks[:2]]
    assert n_corners[0] != n_corners[1]  # a triangle and a circle
    assert len(marks[1].get_facecolor()) == 0  # open
    assert faults(figure) == []
    assert f"stands out: q < .05 ({(channels.q < 0.05).sum():,} channels)" in texts(figure)
    counts = [f"{row.n_significant:.0f} of {row.n_channels}" for row in ranking.layers.itertuples()]
    assert set(counts) <= texts(figure)


@pytest.mark.parametrize(("n_layers", "n_channels"), SIZES)
def test_distributions_reliability_and_shares_are_those_of_the_table(n_layers: int, n_channels: int) -> None:
    ranking = large_network(n_layers, n_channels)
    layers = ranking.layers
    with paper_style():
        figure = draw_layer_distributions(ranking)
    scores, reliability, share = figure.axes
    (ranges,) = (each for each in scores.collections if isinstance(each, LineCollection))
    ends = np.array([segment[:, 0] for segment in ranges.get_segments()])
    own = ranking.channels.groupby("position").bias_corrected
    np.testing.assert_array_equal(ends, np.column_stack([own.min(), own.max()]))
    quartiles = [bar for bar in scores.patches if isinstance(bar, Rectangle) and bar.get_height() == 0.55]
    np.testing.assert_allclose([bar.get_x() for bar in quartiles], layers.lower_quartile)
    np.testing.assert_allclose([bar.get_x() + bar.get_width() for bar in quartiles], layers.upper_quartile)
    np.testing.assert_array_equal(scores.lines[0].get_xdata(), layers["median"])
    np.testing.assert_array_equal([bar.get_width() for bar in reliability.patches], layers.reliability)  # type: ignore[attr-defined]
    np.testing.assert_array_equal([bar.get_width() for bar in share.patches], layers.share_significant)  # type: ignore[attr-defined]
    assert faults(figure) == []


def test_values_that_were_not_computed_are_not_drawn_as_0() -> None:
    ranking = network_ranking([[0.1, 0.2], [0.3, 0.4]], reliability=[MISSING, 0.5], threshold=None, by="score")
    with paper_style():
        figure = draw_layer_distributions(ranking)
        assert texts(figure) >= {"not computed", "score"}
        assert sum(each.text == "not computed" for each in drawn_texts(figure)) == 3  # a reliability, and both shares
        every = draw_channels(ranking)
    assert every.legends == []
    np.testing.assert_allclose(np.sort(every.axes[0].lines[0].get_xdata()), [0.2, 0.3])
    assert "score" in texts(every)


@pytest.mark.parametrize(("n_layers", "n_channels"), SIZES)
def test_the_association_is_drawn_along_the_depth_and_the_best_layers_are_named(n_layers: int, n_channels: int) -> None:
    ranking = large_network(n_layers, n_channels)
    layers = ranking.layers
    with paper_style():
        figure = draw_association(ranking)
    (axes,) = figure.axes
    (line,) = (
        each for each in axes.lines if each.get_linestyle() == "-" and len(np.asarray(each.get_xdata())) == n_layers
    )
    np.testing.assert_array_equal(line.get_xydata(), layers[["depth", "association"]].to_numpy())
    (intervals,) = (each for each in axes.collections if isinstance(each, LineCollection))
    ends = [segment[:, 1] for segment in intervals.get_segments()]
    np.testing.assert_array_equal(ends, layers[["association_low", "association_high"]])
    best = layers.iloc[-1]
    assert f"1. {best.layer} ({best.association:.2f})" in axes.get_xlabel().replace("\n", " ")
    assert faults(figure) == []


def test_maps_are_read_back_from_the_data_of_the_reports() -> None:
    gallery, _, maps = gallery_of(70)
    for place in (0, 31, 32, 69):
        values = maps[place]
        expected = (values - values.min()) / (values.max() - values.min())
        np.testing.assert_allclose(stored_map(gallery["maps"], place), expected, atol=1.5 / 255)


def test_the_best_channels_are_drawn_with_their_maps(tmp_path: Path) -> None:
    ranking = network_ranking([[0.1, 0.2], [0.9, 0.4, 0.8]])
    gallery, picture, _ = gallery_of(3)
    found = pictured(ranking, {"layer1": gallery}, n_shown=4)
    assert [(each.rank, each.layer, each.channel) for each in found] == [
        (1, "layer1", 0),
        (2, "layer1", 2),
        (3, "layer1", 1),
    ]
    assert found[0].measured == "0.90 (0.80 to 1.00)"
    expected = draw_card(picture, stored_map(gallery["maps"], 2))
    assert found[1].card.tobytes() == expected.tobytes()
    with paper_style():
        figure = draw_best_channels(found, ranking)
        assert {axes.get_title(loc="left") for axes in figure.axes} >= {"1. layer1, channel 0\n0.90 (0.80 to 1.00)"}
        assert faults(figure) == []
        save_png(figure, tmp_path / "best.png", 50)
    with Image.open(tmp_path / "best.png") as image:
        assert image.size[0] > 100
