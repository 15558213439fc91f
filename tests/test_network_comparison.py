"""Comparisons of networks: numbers against SciPy and pandas, sentences, and the figure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipeline.figures.network_comparison import draw_network_comparison
from pipeline.figures.style import paper_style
from pipeline.network_comparison import compare_networks
from tests.figures.drawn import faults
from tests.helpers.network_rankings import MISSING, large_network, network_ranking

RNG = np.random.default_rng(0)
FIRST, SECOND = (
    network_ranking(
        [RNG.uniform(size=8).tolist(), RNG.uniform(size=5).tolist()], names=["a", "b"], association=association
    )
    for association in ([0.2, 0.8], [0.7, 0.75])
)


def test_networks_with_the_same_layers_are_compared_layer_by_layer() -> None:
    found = compare_networks([FIRST, SECOND], ["before", "after"])
    assert found.is_by_layer
    assert found.table.part.tolist() == ["a", "b"]
    for place, ranking in enumerate((FIRST, SECOND), start=1):
        np.testing.assert_array_equal(found.table[f"association {place}"], ranking.layers.association)
        share = ranking.channels.groupby("layer").q.agg(lambda q: (q < 0.05).mean())
        np.testing.assert_allclose(found.table[f"share_significant {place}"], share)
    expected = []
    for layer in ("a", "b"):
        pairs = FIRST.channels.merge(SECOND.channels, on=["layer", "channel"])
        own = pairs[pairs.layer == layer]
        expected.append(stats.spearmanr(own.score_x, own.score_y).statistic)
    np.testing.assert_allclose(found.table["spearman 2"], expected)
    assert "spearman 1" not in found.table
    most, least = (np.array(["a", "b"])[place] for place in (np.argmax(expected), np.argmin(expected)))
    sign = str.maketrans("-", "−")
    values = {
        layer: f"{value:.2f}".replace("0.", ".").translate(sign) for layer, value in zip("ab", expected, strict=True)
    }
    assert found.sentences[0] == (
        "b is the layer that is most closely associated with the score everywhere (.80 for before, .75 for after)."
    )
    assert found.sentences[1] == (
        "From before to after, the association of whole layers differs most in a: from .20 to .70."
    )
    assert found.sentences[-1] == (
        f"The order of the channels of after agrees with that of before most in {most} (Spearman correlation "
        f"{values[most]}) and least in {least} ({values[least]})."
    )


def test_dead_channels_and_channels_of_other_networks_do_not_enter_the_agreement() -> None:
    dead = replace(SECOND, channels=SECOND.channels.assign(dead=SECOND.channels.channel == 0))
    found = compare_networks([FIRST, dead], ["1", "2"])
    pairs = FIRST.channels.merge(SECOND.channels, on=["layer", "channel"])
    own = pairs[(pairs.layer == "a") & (pairs.channel != 0)]
    assert found.table["spearman 2"][0] == pytest.approx(stats.spearmanr(own.score_x, own.score_y).statistic)
    other = replace(SECOND, summary=replace(SECOND.summary, model="another"))
    assert compare_networks([FIRST, other], ["1", "2"]).table["spearman 2"].isna().all()
    fewer = network_ranking([[0.1, 0.2, 0.3], RNG.uniform(size=5).tolist()], names=["a", "b"])
    assert compare_networks([FIRST, fewer], ["1", "2"]).table["spearman 2"].isna().tolist() == [True, False]


def test_networks_without_a_common_layer_are_compared_by_depth() -> None:
    large = large_network(20, 600)
    found = compare_networks([FIRST, large], ["small", "large"])
    assert not found.is_by_layer
    assert found.table.part.tolist()[::4] == ["depth 0.0 to 0.2", "depth 0.8 to 1.0"]
    assert found.table["association 1"].tolist() == pytest.approx([0.2, MISSING, MISSING, MISSING, 0.8], nan_ok=True)
    last = large.layers[large.layers.depth >= 0.8]
    assert found.table["association 2"].iloc[-1] == pytest.approx(last.association.mean())
    own = large.channels[large.channels.depth >= 0.8]
    assert found.table["share_significant 2"].iloc[-1] == pytest.approx((own.q < 0.05).mean())
    assert found.layers.spearman.isna().all()
    best = large.layers.layer.iloc[-1]
    assert found.sentences[0] == (
        "The layer that is most closely associated with the score is b at depth 1.00 for small (.80); "
        f"{best} at depth 1.00 for large (.95)."
    )
    assert found.sentences[1].startswith("From small to large, the association of whole layers differs most at depth 0")


def test_different_architectures_are_compared_by_depth_even_with_layers_of_the_same_name() -> None:
    names = ["a", "b", "c"]
    other = network_ranking([[0.1], [0.2], [0.9]], names=names, association=[0.1, 0.2, 0.9], model="another")
    found = compare_networks([FIRST, other], ["1", "2"])
    assert not found.is_by_layer
    np.testing.assert_allclose(found.table["association 2"], [0.1, MISSING, 0.2, MISSING, 0.9])
    deeper = network_ranking([[0.1], [0.9], [0.2]], names=names, association=[0.1, 0.9, 0.2])  # of the same name
    assert compare_networks([FIRST, deeper], ["1", "2"]).sentences[0] == (
        "The layer that is most closely associated with the score is b at depth 1.00 for 1 (.80); b at depth .50 for 2 "
        "(.90)."
    )
    same = replace(FIRST, summary=replace(FIRST.summary, model="renamed"))
    found = compare_networks([FIRST, same, FIRST], ["1", "2", "3"])
    assert found.is_by_layer
    assert found.table["spearman 2"].isna().all()  # channels are compared only within networks of one name
    assert found.table["spearman 3"].tolist() == pytest.approx([1, 1])


def test_a_network_does_not_differ_from_itself() -> None:
    again = replace(FIRST, layers=FIRST.layers.copy())
    found = compare_networks([FIRST, again], ["1", "2"])
    assert found.table["spearman 2"].tolist() == pytest.approx([1, 1])
    assert found.sentences[1:3] == (
        "From 1 to 2, the association of whole layers does not differ.",
        "From 1 to 2, the share of channels that stand out does not differ.",
    )
    nothing = network_ranking([[0.1, 0.2]], threshold=None)
    assert compare_networks([nothing, nothing], ["1", "2"]).sentences == (
        "The association of whole layers was not computed in any network.",
    )


def test_the_figure_shows_the_values_along_the_depth() -> None:
    found = compare_networks([FIRST, SECOND, FIRST], ["before", "after", "a long name of a network " * 5])
    with paper_style():
        figure = draw_network_comparison(found)
        assert faults(figure) == []
        for axes, name in zip(figure.axes, ("association", "share_significant", "spearman"), strict=True):
            lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
            drawn = {place: np.asarray(line.get_xydata()) for place, line in enumerate(lines)}
            expected = [own for _, own in found.layers.groupby("network") if own[name].notna().any()]
            for line, own in zip(drawn.values(), expected, strict=True):
                np.testing.assert_array_equal(line, own[["depth", name]].to_numpy())
        looks = {(line.get_marker(), line.get_linestyle()) for line in figure.axes[0].lines[:3]}
        assert len(looks) == 3  # distinguished by more than colour
        assert len(draw_network_comparison(compare_networks([FIRST, large_network(3, 60)], "ab")).axes) == 2
