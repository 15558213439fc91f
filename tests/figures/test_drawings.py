"""The drawings, read back from matplotlib's own objects: what is shown is what was given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import Trust
from pipeline.figures.activation_maps import draw_activation_maps
from pipeline.figures.cam import Look, draw_cam
from pipeline.figures.ranking import draw_ranking_curve, draw_reliability, draw_transforms

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 255, (8, 8), dtype=np.uint8) for _ in range(3)]
NAMES = ["a", "b", "c"]


def texts(figure) -> set[str]:
    figure.canvas.draw()
    axes = [ax for ax in figure.axes if ax.get_visible()]
    found = {text.get_text() for ax in axes for text in [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]}
    found |= {text.get_text() for ax in axes for text in ax.get_yticklabels()}
    return found | {figure.get_suptitle()}


def test_each_channels_maps_share_one_scale() -> None:
    maps = [RNG.normal(size=(3, 4, 4)), RNG.normal(size=(3, 4, 4)) * 100]
    figure = draw_activation_maps(PICTURES, NAMES, maps, ["channel 5", "channel 9"], n_top=1, title="question")
    assert {"image", "channel 5", "channel 9", "a", "b", "c", "question"} <= texts(figure)
    shown = [image for ax in figure.axes for image in ax.get_images() if image.get_array().shape == (4, 4)]
    assert len(shown) == 6
    for channel in range(2):
        for image in shown[3 * channel : 3 * channel + 3]:
            assert image.get_clim() == (maps[channel].min(), maps[channel].max())
            assert image.get_cmap().name == "viridis"


def test_a_constant_channel_can_be_drawn() -> None:
    figure = draw_activation_maps(PICTURES, NAMES, [np.zeros((3, 4, 4))], ["dead"], n_top=1, title="")
    assert "dead" in texts(figure)


def test_the_curve_names_the_best_channels_and_sets_dead_ones_apart() -> None:
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
    assert {"rank", "score: maximal correlation", "question"} <= texts(figure)
    legend = figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["6 channels", "best channels: 7, 6, 5, 4, 3", "2 dead"]

    evidence = {"null_mean": 0.3, "null_deviation": 0.05, "corrected": table.score - 0.1, "low": 0.2, "high": 0.7}
    legend = draw_ranking_curve(table.assign(**evidence), "").axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()][:2] == ["by chance, 90 %", "less its bias, 95 %"]


@pytest.mark.parametrize("at_half", [0.6, -0.1])
def test_the_reliability_curve_goes_through_what_was_measured_at_half_the_images(at_half: float) -> None:
    trust = Trust(0.75, 900.0, 3, ((75, 0.3), (150, at_half)))
    axes = draw_reliability(trust, 300, "question").axes[0]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), trust.curve)
    foretold = [line for line in axes.lines if len(line.get_xdata()) == 100]
    assert len(foretold) == (at_half > 0)
    for line in foretold:
        assert np.interp(150, line.get_xdata(), line.get_ydata()) == pytest.approx(at_half, abs=0.01)
        assert np.interp(300, line.get_xdata(), line.get_ydata()) == pytest.approx(0.75, abs=0.01)


def test_transforms_have_a_panel_per_component_and_one_for_theta() -> None:
    projections = RNG.normal(size=(20, 14))
    figure = draw_transforms(projections, projections**2, np.arange(20.0), RNG.normal(size=20), "question")
    found = texts(figure)
    assert {rf"$\phi_{{{index}}}$" for index in range(1, 12)} | {r"$\theta$", "class score (logit)"} <= found
    assert r"$\phi_{12}$" not in found
    offsets = figure.axes[0].collections[0].get_offsets()
    np.testing.assert_array_equal(offsets[:, 1], projections[:, 0] ** 2)


def test_predictions_show_the_five_best_with_and_without_a_map() -> None:
    probabilities = np.array([[0.05, 0.4, 0.2, 0.15, 0.1, 0.06, 0.04]] * 3)
    names = ["zero", "one", "two", "three", "four", "five", "six"]
    with_map = draw_cam(PICTURES, NAMES, Look(probabilities, RNG.normal(size=(3, 4, 4))), names, 1, "question")
    without = draw_cam(PICTURES, NAMES, Look(probabilities, None), names, 1, "question")
    assert {"one", "two", "three", "four", "five", "40.0%", "CAM: one"} <= texts(with_map)
    assert not {"zero", "six"} & texts(with_map)
    assert "CAM: one" not in texts(without)
