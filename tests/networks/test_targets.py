from __future__ import annotations

import pytest
import torch

from pipeline.config import compose_settings
from pipeline.errors import NetworkError, SettingsError
from pipeline.networks.targets import check_target, target_scores
from pipeline.settings import TargetSettings

LOGITS = torch.tensor([[1.0, 4.0, 2.0], [3.0, 0.5, -1.0]])


def target(*overrides: str) -> TargetSettings:
    return compose_settings(overrides).target


def test_the_logit_is_the_default() -> None:
    assert target_scores(LOGITS, target(), 1).tolist() == [4.0, 0.5]
    assert target_scores(LOGITS, target(), 1).dtype == torch.float64


def test_the_probability_is_the_softmax_or_the_logistic_function() -> None:
    found = target_scores(LOGITS, target("target.score=probability"), 1)
    expected = LOGITS.double().exp()[:, 1] / LOGITS.double().exp().sum(dim=1)
    torch.testing.assert_close(found, expected)
    one = target_scores(LOGITS[:, :1], target("target.score=probability"), 0)
    torch.testing.assert_close(one, 1 / (1 + (-LOGITS[:, 0].double()).exp()))


def test_the_margin_is_the_difference_from_the_largest_other_logit() -> None:
    assert target_scores(LOGITS, target("target.score=margin"), 1).tolist() == [2.0, -2.5]
    assert target_scores(LOGITS, target("target.score=margin"), 0).tolist() == [-3.0, 2.5]


@pytest.mark.parametrize("outputs", [LOGITS, LOGITS[:, :1], LOGITS[:, 0]])
def test_the_score_of_a_regression_network_is_its_output(outputs: torch.Tensor) -> None:
    assert target_scores(outputs, target("target=regression"), None).tolist() == [1.0, 3.0]


def test_the_output_of_a_regression_network_can_be_selected() -> None:
    assert target_scores(LOGITS, target("target=regression", "target.output=2"), None).tolist() == [2.0, -1.0]
    with pytest.raises(NetworkError) as caught:
        check_target(target("target=regression", "target.output=3"), 3)
    assert str(caught.value) == "target.output must be in [0, 2]; got 3."


def test_a_margin_is_not_defined_for_one_output() -> None:
    with pytest.raises(NetworkError) as caught:
        check_target(target("target.score=margin"), 1)
    assert str(caught.value) == (
        "target.score must be logit or probability for a network with one output; got margin "
        "(the difference from other classes)."
    )


def test_a_regression_has_no_target_class() -> None:
    settings = compose_settings(["target=regression"])
    assert (settings.class_name, settings.target_class, settings.target_label) == (None, None, "output 0")
    assert compose_settings(["target=regression", "class_name=3"]).class_name == "3"
    with pytest.raises(SettingsError) as caught:
        compose_settings(["target=regression", "target_class=3"])
    assert str(caught.value) == ("target_class must be null with target=regression; got 3. Set target.output instead.")
    with pytest.raises(SettingsError) as caught:
        compose_settings(["target.score=softmax"])
    assert str(caught.value) == "target.score must be 'logit', 'probability' or 'margin'; got \"softmax\"."
