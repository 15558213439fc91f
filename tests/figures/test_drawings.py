"""The figures, checked through matplotlib's own objects: they show the values that they were given."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image
from scipy.stats import norm

from pipeline.artifacts import Trust
from pipeline.figures.activation_maps import ChannelMaps, draw_activation_maps
from pipeline.figures.cam import SizedImage, channel_weighted, draw_cam, draw_channel_weighted, overlay_image
from pipeline.figures.columns import NULL_BAND
from pipeline.figures.comparison import _apart, draw_agreement, draw_distributions, draw_slopes
from pipeline.figures.maximization import draw_maximization
from pipeline.figures.ranking import draw_ranking_curve, draw_reliability, draw_transforms
from pipeline.figures.smoothness import draw_smoothness
from pipeline.figures.style import paper_style, render_png, save_png
from pipeline.figures.sweep import Line, draw_sweep, draw_with_first
from pipeline.networks.attribution import ClassActivation
from pipeline.networks.maximization import Maximized
from tests.figures.drawn import faults
from tests.helpers.rankings import ranking

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 255, (8, 8), dtype=np.uint8) for _ in range(3)]
NAMES = ["a", "b", "c"]
SEEN = [SizedImage(picture, name, (0, 0, 8, 8)) for picture, name in zip(PICTURES, NAMES, strict=True)]


def texts(figure: Figure) -> set[str]:
    figure.canvas.draw()
    axes = [ax for ax in figure.axes if ax.get_visible()]
    found = {text.get_text() for ax in axes for text in [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]}
    found |= {text.get_text() for ax in axes for text in ax.get_yticklabels()}
    return found | {figure.get_suptitle(), figure.get_supxlabel()}


def title(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ")


def channel(title: str, maps: np.ndarray) -> ChannelMaps:
    return ChannelMaps(title, maps, PICTURES, NAMES, float(maps.min()), float(maps.max()))


def maps_shown(figure: Figure, colours: str) -> list[AxesImage]:
    return [image for ax in figure.axes for image in ax.get_images() if image.get_cmap().name == colours]


def test_each_channels_maps_share_one_scale_with_a_colour_bar() -> None:
    maps = [RNG.normal(size=(3, 4, 4)), RNG.normal(size=(3, 4, 4)) * 100]
    channels = [channel("channel 5", maps[0]), channel("channel 9", maps[1])]
    figure = draw_activation_maps(channels, n_top=1, question="question", overlay=False, own_images=False)
    assert {"image", "channel 5", "channel 9", "a", "b", "c"} <= texts(figure)
    assert title(figure) == "Activation maps of the best 1 and last 1 channels question"
    assert "activation (units of the network, one scale per channel)" in texts(figure)
    shown = maps_shown(figure, "viridis")
    assert len(shown) == 6
    for index in range(2):
        for image in shown[3 * index : 3 * index + 3]:
            assert image.get_clim() == (maps[index].min(), maps[index].max())


def test_the_label_says_whether_channels_share_a_scale() -> None:
    channels = [replace(channel(name, RNG.normal(size=(3, 4, 4))), low=-3.0, high=3.0) for name in ("5", "9")]
    figure = draw_activation_maps(channels, n_top=1, question="", overlay=False, own_images=False)
    assert "activation (units of the network, one scale for all channels)" in texts(figure)
    assert {image.get_clim() for image in maps_shown(figure, "viridis")} == {(-3.0, 3.0)}


def test_the_opacity_of_an_overlay_increases_with_the_activation() -> None:
    maps = np.linspace(0, 1, 48).reshape(3, 4, 4)
    figure = draw_activation_maps([channel("x", maps)], n_top=1, question="", overlay=True, own_images=False)
    shown = maps_shown(figure, "inferno")
    assert len(shown) == 3
    alphas = np.stack([image.get_alpha() for image in shown]).ravel()
    assert (alphas[0], alphas[-1]) == (0, 0.8)
    assert (np.diff(alphas) > 0).all()
    assert tuple(shown[0].get_extent()) == (-0.5, 7.5, 7.5, -0.5)  # over the whole image


def test_images_of_a_channel_are_drawn_beside_its_maps() -> None:
    channels = [channel("5", RNG.normal(size=(3, 4, 4))), channel("9", RNG.normal(size=(3, 4, 4)))]
    figure = draw_activation_maps(channels, n_top=1, question="", overlay=False, own_images=True)
    assert len(maps_shown(figure, "gray")) == 6
    assert "image" not in texts(figure)


def test_a_constant_channel_can_be_drawn() -> None:
    figure = draw_activation_maps(
        [channel("dead", np.zeros((3, 4, 4)))], n_top=1, question="", overlay=True, own_images=False
    )
    assert "dead" in texts(figure)


def test_the_curve_names_the_best_channels_and_marks_dead_ones() -> None:
    table = pd.DataFrame(
        {
            "rank": range(1, 9),
            "channel": [7, 6, 5, 4, 3, 2, 1, 0],
            "score": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.0, 0.0],
            "dead": [False] * 6 + [True] * 2,
            "by": "maximal",
            "statistic": "maximal",
        }
    )
    table["score_maximal"] = table.score
    figure = draw_ranking_curve(table, "question")
    assert {"rank", "score: maximal correlation", "Scores by rank: question"} <= texts(figure)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["score (6 channels)", "best channels: 7, 6, 5, 4, 3", "dead (2 channels)"]

    evidence = {"null_mean": 0.3, "null_deviation": 0.05, "corrected": table.score - 0.1, "low": 0.2, "high": 0.7}
    (legend,) = draw_ranking_curve(table.assign(**evidence), "").legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[:2] == ["null mean, 90 % of the null", "bias-corrected, 95 % interval"]


@pytest.mark.parametrize("at_half", [0.6, -0.1])
def test_the_predicted_reliability_agrees_with_the_measured_one_at_half_the_images(at_half: float) -> None:
    trust = Trust(0.75, 900.0, 3, ((75, 0.3), (150, at_half)))
    axes = draw_reliability(trust, 300, "question").axes[0]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), trust.curve)
    predicted = [line for line in axes.lines if len(line.get_xdata()) == 100]
    assert len(predicted) == (at_half > 0)
    for line in predicted:
        assert np.interp(150, line.get_xdata(), line.get_ydata()) == pytest.approx(at_half, abs=0.01)
        assert np.interp(300, line.get_xdata(), line.get_ydata()) == pytest.approx(0.75, abs=0.01)


def test_transforms_have_a_panel_per_component_and_one_for_theta() -> None:
    projections = RNG.normal(size=(20, 14))
    figure = draw_transforms(
        projections, projections**2, np.arange(20.0), RNG.normal(size=20), "output 0", 7, "question"
    )
    found = texts(figure)
    assert {"φ₁", "φ₂", "φ₁₀", "φ₁₁", "θ", "output 0", "ACE transforms of channel 7: question"} <= found
    assert "φ₁₂" not in found
    offsets = figure.axes[0].collections[0].get_offsets()
    np.testing.assert_array_equal(offsets[:, 1], projections[:, 0] ** 2)


def test_predictions_show_the_five_best_with_and_without_maps() -> None:
    probabilities = np.array([[0.05, 0.4, 0.2, 0.15, 0.1, 0.06, 0.04]] * 3)
    names = ["zero", "one", "two", "three", "four", "five", "six"]
    maps = RNG.normal(size=(3, 4, 4))
    predicted = np.array([1, 1, 1])
    found = ClassActivation(np.log(probabilities), probabilities, predicted, "CAM", maps, maps * 2)
    with_maps = draw_cam(SEEN, found, names, 2, "question")
    without = draw_cam(SEEN, replace(found, method=None, target_maps=None, predicted_maps=None), names, 2, "question")
    panels = {"target class", "predicted class", "contribution to the class score"}
    wanted = {"one", "two", "three", "four", "five", "40.0%", *panels}
    assert wanted <= texts(with_maps)
    assert not {"zero", "six"} & texts(with_maps)
    assert not panels & texts(without)
    assert title(with_maps) == "Class activation maps (CAM): question"
    assert title(without) == "Most probable classes: question"
    assert {image.get_clim() for image in maps_shown(with_maps, "inferno")} == {(0.0, 2 * maps.max())}


def test_a_network_with_one_output_has_neither_a_probability_nor_a_predicted_class() -> None:
    outputs, maps = np.array([[-1.5], [0.25], [2.0]]), RNG.normal(size=(3, 4, 4))
    found = ClassActivation(outputs, None, np.zeros(3, dtype=np.int64), "CAM", maps, None)
    with_maps = draw_cam(SEEN, found, ["cat"], 0, "question")
    assert {"target class", "cat", "output", "−1.5", "0.25", "2"} <= texts(with_maps)
    assert not any("%" in each or each in ("predicted class", "probability") for each in texts(with_maps))
    bars = [axes.patches[0].get_extents() for axes in with_maps.axes if len(axes.patches) == 1 and axes.lines]
    widths = np.array([bar.width for bar in bars])
    np.testing.assert_allclose(widths / widths[0], np.abs(outputs[:, 0]) / 1.5)
    without = draw_cam(SEEN, replace(found, method=None, target_maps=None), ["cat"], 0, "question")
    assert title(without) == "Output: question"
    assert not faults(with_maps)
    assert not faults(without)


def test_an_overlay_has_the_size_of_the_image_and_covers_the_part_that_the_network_sees() -> None:
    picture = np.full((30, 50, 3), 100, dtype=np.uint8)
    image = SizedImage(picture, "wide", (10, 0, 40, 30))
    laid = overlay_image(image, np.full((7, 7), 2.0), high=2.0)
    assert laid.size == (50, 30)
    pixels = np.asarray(laid)
    np.testing.assert_array_equal(pixels[:, :10], 100)
    np.testing.assert_array_equal(pixels[:, 40:], 100)
    assert (pixels[:, 10:40] != 100).any(axis=2).all()


def test_the_weighted_map_is_the_weighted_mean_of_the_deviations() -> None:
    small, large = np.zeros((5, 2, 2)), np.zeros((5, 2, 2))
    small[0, 0, 0], large[0, 1, 1] = -1.0, 1000.0  # the deviation does not depend on sign and scale
    found = channel_weighted([small, large], [1.0, 3.0], [0, 1])
    assert found.shape == (2, 2, 2)
    np.testing.assert_allclose(found[0] / found[0].max(), [[1 / 3, 0], [0, 1]])
    np.testing.assert_array_equal(found[1], 0)
    figure = draw_channel_weighted(SEEN[:2], found, 2, "question")
    assert title(figure) == "Score-weighted deviation of the 2 best channels question"
    assert {"a", "b"} <= texts(figure)


def test_inputs_found_are_drawn_with_the_most_activating_images_and_both_activations() -> None:
    found = Maximized((5, 9), np.stack(PICTURES[:2]), np.array([3.25, 2.5]), np.array([1.5, -0.25]))
    figure = draw_maximization(found, PICTURES[1:], ["5", "9"], ["b", "c"], "question")
    values = {"3.25", "2.50", "1.50", "−0.25"}
    assert {"5", "9", "b", "c", "input found", "most activating\nimage", *values} <= texts(figure)


def test_the_heat_map_contains_the_values_of_all_pairs() -> None:
    matrix = np.array([[1, 0.37], [0.37, 1]])
    figure = draw_agreement([("Spearman", matrix), ("Kendall", -matrix)], ["one", "two"], "question")
    assert {"Spearman", "Kendall", "0.37", "−0.37", "one", "two"} <= texts(figure)


def test_slopes_show_the_best_channels_of_every_run() -> None:
    first, second = np.arange(1.0, 21), np.arange(20.0, 0, -1)
    figure = draw_slopes([first, second], ["one", "two"], 2, "question")
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2 and line.get_marker() == "o"]
    assert sorted(tuple(line.get_ydata()) for line in lines) == [(1, 20), (2, 19), (19, 2), (20, 1)]
    assert {"0", "1", "18", "19"} <= texts(figure)


def test_indices_beside_neighbouring_ranks_do_not_overlap() -> None:
    assert _apart(np.array([100.0, 50.0, 49.0, 48.0, 0.0]), 10) == [100, 59, 49, 39, 0]
    assert _apart(np.array([12.0, 9.0, 1.0]), 10) == pytest.approx([17 + 1 / 3, 7 + 1 / 3, -2 - 2 / 3])
    figure = draw_slopes([np.arange(1.0, 41), np.arange(40.0, 0, -1)], ["one", "two"], 12, "question")
    assert faults(figure) == []


def test_distributions_of_layers_with_different_numbers_of_channels_are_compared() -> None:
    figure = draw_distributions([RNG.random(16), RNG.random(64)], ["conv1", "conv3"], ["maximal", "maximal"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["conv1 (16)", "conv3 (64)"]
    assert {"conv1", "conv3"} <= texts(figure)


def test_scores_of_different_rankers_are_not_drawn_on_one_scale() -> None:
    scores = [np.array([0.9, 0.45, 0.0]), np.array([-50.0, 25.0, 10.0])]
    for kinds, expected, label in (
        (["pearson", "pearson"], [[0.9, 0.45, 0.0], [25.0, 10.0, -50.0]], "score"),
        (["pearson", "ablation"], [[1.0, 0.5, 0.0], [0.5, 0.2, -1.0]], "score / largest absolute score"),
    ):
        curves, boxes = draw_distributions(scores, ["a", "b"], kinds).axes
        for line, values in zip(curves.lines, expected, strict=True):
            np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), values)
        assert (curves.get_ylabel(), boxes.get_xlabel().split("\n")[0]) == (label, label)
    tables = {
        by: ranking(values.tolist()).assign(by=by) for by, values in zip(("pearson", "maximal"), scores, strict=True)
    }
    assert draw_sweep(tables).axes[0].get_ylabel() == "score / largest absolute score"
    assert draw_sweep({"pearson": tables["pearson"]}).axes[0].get_ylabel() == "score"


@pytest.mark.parametrize("overlay", [False, True])
def test_the_same_drawing_is_the_same_bytes(tmp_path: Path, overlay: bool) -> None:
    maps = RNG.normal(size=(3, 4, 4))
    for name in ("one.png", "two.png"):
        with paper_style():
            figure = draw_activation_maps([channel("x", maps)], 1, "question", overlay=overlay, own_images=False)
            save_png(figure, tmp_path / name, 60)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert "Software" not in image.info


def test_the_line_goes_through_the_mean_of_jobs_at_the_same_position() -> None:
    line = Line("conv3", 65, [0, 2, 2, 10], [1.0, 0.4, 0.2, None], [0.9, 0.8, 0.6, None])
    figure = draw_with_first([line], "model.randomized", {})
    (axes,) = figure.axes
    points, means, reliability = axes.lines[:3]
    assert points.get_xydata()[:3].tolist() == [[0, 1], [2, 0.4], [2, 0.2]]
    assert means.get_xydata()[:2].tolist() == pytest.approx(np.array([[0, 1], [2, 0.3]]))
    assert reliability.get_xydata()[:2].tolist() == pytest.approx(np.array([[0, 0.9], [2, 0.7]]))
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((-1.96 / 8, 1.96 / 8))
    assert (axes.get_xlabel(), axes.get_ylim()[0] <= -0.3) == ("model.randomized", True)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    unrelated = "95 % of unrelated rankings of 65 channels"
    assert labels == ["conv3 (65 channels)", "split-half reliability of each ranking", unrelated]


def test_jobs_that_differ_in_other_settings_than_numbers_are_named(tmp_path: Path) -> None:
    lines = [
        Line("conv1", 16, [0, 2], [1.0, 0.5], [None, None]),
        Line("conv2", 32, [1, 3], [1.0, -0.9], [None, None]),
    ]
    figure = draw_with_first(lines, "", {place: f"rank.by={place}" for place in range(4)})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == [f"rank.by={place}" for place in range(4)]
    assert axes.get_ylim()[0] <= -0.9
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert not any("reliability" in label for label in labels)
    save_png(figure, tmp_path / "agreement.png", dpi=50)


def smoothness_choice(values: np.ndarray, *, is_associated: bool = True) -> dict[str, Any]:
    return {
        "predictors": (0.0, 0.3, 0.9), "response": (0.0, 0.1, 0.3, 0.9), "shrinkage": (0.0, 0.15),
        "mean_correlation": values.tolist(), "is_associated": is_associated,
        "smoothness": {"predictors": 0.25, "response": 0.2, "shrinkage": 0.1},
        "components": (3,), "components_correlation": [0.3], "n_components": 3,
    }  # fmt: skip


def test_the_number_of_components_is_drawn_where_it_was_chosen() -> None:
    choice = smoothness_choice(RNG.uniform(0.1, 0.3, size=(2, 3, 4)))
    choice |= {"components": (1, 2, 5), "components_correlation": [0.1, 0.3, 0.2], "n_components": 2}
    with paper_style():
        figure = draw_smoothness(choice, "network, layer, class 5")
        assert faults(figure) == []
    (axes,) = [axes for axes in figure.axes if axes.get_title() == "2 components chosen"]
    curve, mark = [np.asarray(line.get_xydata()).tolist() for line in axes.lines]
    assert curve == [[1.0, 0.1], [2.0, 0.3], [5.0, 0.2]]
    assert mark == [[2.0, 0.3]]


@pytest.mark.parametrize(
    ("is_associated", "rule"),
    [(True, "as a weighted mean"), (False, "for lack of an association, the typical smoothness")],
)
def test_the_grid_of_the_smoothness_shows_the_best_setting_and_the_chosen_one(is_associated: bool, rule: str) -> None:
    values = RNG.uniform(0.1, 0.3, size=(2, 3, 4))
    values[1, 2, 3] = 0.4
    choice = smoothness_choice(values, is_associated=is_associated)
    with paper_style():
        figure = draw_smoothness(choice, "network, layer, class 5")
        assert faults(figure) == []
    shown = maps_shown(figure, "cividis")
    np.testing.assert_allclose([image.get_array() for image in shown], values)
    marks = [[line.get_xydata().tolist() for line in image.axes.lines] for image in shown]
    assert marks == [[], [[[3.0, 2.0]]]]
    assert f"Chosen, {rule}: 0.25, 0.20, shrinkage 0.10" in " ".join(figure.get_supxlabel().split())


def test_a_figure_is_the_same_to_the_byte_as_if_matplotlib_had_laid_it_out() -> None:
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 255, (24, 24, 3), dtype=np.uint8)] * 2
    channels = [ChannelMaps(f"channel {each}", draw.random((2, 7, 7)), pictures, ["a", "b"], 0.0, 1.0) for each in "12"]

    def drawn() -> Figure:
        return draw_activation_maps(channels, 1, "network, layer", overlay=True, own_images=True)

    with paper_style():
        buffer = BytesIO()
        drawn().savefig(buffer, format="png", dpi=60, metadata={"Software": None})
        assert render_png(drawn(), 60) == buffer.getvalue()


def test_the_band_of_the_null_holds_90_percent_of_it() -> None:
    assert float(norm.ppf(0.95)) == NULL_BAND
