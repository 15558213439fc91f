"""The sentences that say which layers matter, in all cases."""

from __future__ import annotations

import pytest

from tests.helpers.network_rankings import MISSING, network_ranking

HIGH, LOW = [0.6, 0.5, 0.4], [0.1, 0.2, 0.4]


def test_layers_are_named_by_their_association() -> None:
    found = network_ranking([LOW, HIGH, [0.0]], association=[0.5, 0.9, 0.05], reliability=[0.2, 0.9, 0.8])
    assert found.sentences == [
        "The layer that is most closely associated with the score of class cat is layer1 (cross-fitted correlation "
        ".90; 3 of its 3 channels stand out), followed by layer0 (.50).",  # the interval of layer2 contains 0
        "4 of the 7 channels score above the permutation null (q < .05), in 2 of the 3 layers, most of them in layer1.",
        "The order of the channels is reliable in 2 of the 3 layers (split-half reliability of at least .70).",
        "The best channel is channel 0 of layer1 (bias-corrected score .60).",
    ]


def test_no_channel_stands_out_and_no_layer_is_associated() -> None:
    found = network_ranking([[0.1, 0.0], [0.2]], association=[0.05, -0.02], reliability=[0.1, -0.2], not_ranked=["fc"])
    assert found.sentences == [
        "No layer can be said to matter with these 300 images: in none of the 2 layers is the association with the "
        "score of class cat above chance, and no channel stands out (q < .05).",
        "None of the 3 channels scores above the permutation null (q < .05).",
        "The order of the channels is not reliable in any layer: the largest split-half reliability is .10, and .70 "
        "would be needed. More images would raise it.",
        "The best channel is channel 0 of layer1 (bias-corrected score .20).",
        "1 selected layer was not ranked.",
    ]


def test_a_layer_may_be_associated_though_no_single_channel_stands_out() -> None:
    answer = network_ranking([[0.1, 0.0], [0.2]], association=[0.4, 0.02]).sentences[0]
    assert answer == (
        "The layer that is most closely associated with the score of class cat is layer0 (cross-fitted correlation "
        ".40); no single channel stands out in any of the 2 layers (q < .05)."
    )


@pytest.mark.parametrize(
    ("association", "scores", "sentence"),
    [
        (
            0.7,
            [0.5, 0.1],
            "is associated with the score of class cat (cross-fitted correlation .70); 1 of its 2 channels",
        ),
        (
            0.05,
            [0.0],
            "is not associated with the score of class cat above chance (cross-fitted correlation .05); 0 of",
        ),
        (MISSING, [0.5], "has 1 channel; 1 of its 1 channel stands out (q < .05)."),
    ],
)
def test_one_layer(association: float, scores: list[float], sentence: str) -> None:
    found = network_ranking([scores], names=["conv1"], association=[association], reliability=[0.3])
    assert found.sentences[0].startswith(f"conv1, the only layer that was ranked, {sentence}")
    assert found.sentences[1] == "The order of its channels is not reliable: its split-half reliability is .30."


def test_without_the_association_the_share_that_stands_out_decides_and_then_the_median() -> None:
    scores = [LOW, HIGH]
    assert network_ranking(scores).sentences[0] == (
        "The layer with the largest share of channels that stand out for the score of class cat is layer1 (3 of 3, "
        "q < .05)."
    )
    assert network_ranking([[0.1], [0.2]]).sentences[0] == (
        "No layer can be said to matter with these 300 images: no channel in any of the 2 layers stands out for the "
        "score of class cat (q < .05)."
    )
    assert network_ranking(scores, threshold=None, by="score", target="output 0").sentences == [
        "The layer with the largest median score of its channels for output 0 is layer1 (.60).",
        "The best channel is channel 0 of layer1 (score .70).",
    ]


def test_all_channels_stand_out_and_all_orders_are_reliable() -> None:
    found = network_ranking([HIGH, HIGH], association=[0.9, 0.8], reliability=[0.9, 0.7]).sentences
    assert found[1:3] == [
        "All of the 6 channels score above the permutation null (q < .05).",
        "The order of the channels is reliable in every layer (split-half reliability of at least .70).",
    ]
    found = network_ranking([[0.1, 0.5], [0.1]], association=[0.9, 0.8]).sentences
    assert found[1] == "1 of the 3 channels scores above the permutation null (q < .05), in layer0."
