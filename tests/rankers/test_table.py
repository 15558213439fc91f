"""The table of rankers, and the rankers themselves in memory: without settings of a run, files or a store."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.artifacts import ChannelScores, Projections, Workspace
from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks import deeplift, rescale
from pipeline.networks import inputs as inputs_module
from pipeline.networks.examined import ExaminedNetwork
from pipeline.numerics.pca import reduce_channels
from pipeline.rankers import RANKERS, RankerInputs, ranking_statistic
from pipeline.rankers.table import EVIDENCE
from pipeline.settings import ACE_STATISTICS, AceSettings, HalvesSettings
from pipeline.stages.activate import activations_of

N_IMAGES, N_CHANNELS, DEAD = 40, 5, 3


class TensorInputs:
    """Inputs in memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __len__(self) -> int:
        return len(self._tensor)

    def read(self, images: slice) -> torch.Tensor:
        return self._tensor[images]


def ignore(done: int, total: int) -> None:
    """Accept the progress."""


@pytest.fixture(scope="module")
def inputs() -> RankerInputs[HalvesSettings]:
    """Return the inputs of rankers for a small network with one dead channel, with the settings of `pearson`."""
    torch.manual_seed(0)
    layer = nn.Conv2d(1, N_CHANNELS, 3)
    with torch.no_grad():
        layer.weight[DEAD] = 0
    network = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(N_CHANNELS * 16, 2)).eval()
    images = torch.rand(N_IMAGES, 1, 6, 6)
    examined = ExaminedNetwork.of_module(network, "0", lambda outputs: outputs[:, 1].double(), images[:2])
    activations = activations_of(examined, TensorInputs(images), 16, Workspace(), ignore)
    return RankerInputs(
        settings=compose_settings(["score=pearson", "score.bootstrap=8"]).score,
        seed=0,
        activations=activations,
        projections=Projections(*reduce_channels(activations.maps, 2, ignore)),
        open_network=lambda: examined,
        images=TensorInputs(images),
        batch_size=16,
        progress=ignore,
    )


def with_settings(inputs: RankerInputs[HalvesSettings], kind: str) -> RankerInputs[HalvesSettings]:
    return replace(inputs, settings=compose_settings([f"score={kind}", "score.bootstrap=8"]).score)


@pytest.mark.parametrize("kind", RANKERS)
def test_each_ranker_scores_the_varying_channels_in_memory(kind: str, inputs: RankerInputs[HalvesSettings]) -> None:
    ranker = RANKERS[kind]
    scores = ranker.score(with_settings(inputs, kind))
    assert sorted(scores.values) == sorted(statistic.name for statistic in ranker.statistics)
    assert np.flatnonzero(scores.dead).tolist() == [DEAD]
    for statistic in ranker.statistics:
        values = scores.values[statistic.name]
        assert values.shape == (N_CHANNELS,)
        assert np.isfinite(values).all()
        assert values[DEAD] == 0
        if statistic.is_correlation:
            assert values.max() <= 1 + 1e-9
            assert values.min() >= -1e-9
        evidence = scores.evidence[statistic.name]
        assert len(evidence) == N_CHANNELS
        assert evidence.loc[DEAD].isna().all()
        assert {"rank_low", "rank_high"} <= set(evidence)


@pytest.mark.parametrize("kind", [kind for kind, ranker in RANKERS.items() if ranker.scorer is not None])
def test_the_scorer_with_all_images_gives_the_scores(kind: str, inputs: RankerInputs[HalvesSettings]) -> None:
    ranker, given = RANKERS[kind], with_settings(inputs, kind)
    assert ranker.scorer is not None
    by_scorer = ranker.scorer(given)(np.arange(N_IMAGES))
    varying = np.arange(N_CHANNELS) != DEAD
    np.testing.assert_array_equal(by_scorer[varying], ranker.score(given).values[kind][varying])


def test_the_statistics_of_ace_are_those_in_the_settings() -> None:
    assert {statistic.name for statistic in RANKERS["ace"].statistics} == set(ACE_STATISTICS)


def test_names_of_statistics_are_unique() -> None:
    names = [statistic.name for ranker in RANKERS.values() for statistic in ranker.statistics]
    names += [statistic.name for statistic in EVIDENCE]
    assert len(set(names)) == len(names)
    assert [ranking_statistic(name).name for name in names] == names


def test_all_rankers_except_ace_have_a_scorer() -> None:
    assert [kind for kind, ranker in RANKERS.items() if ranker.scorer is None] == ["ace"]
    assert RANKERS["ace"].settings is AceSettings


@pytest.mark.parametrize("kind", ["ace", "pearson", "distance_correlation", "mutual_information", "mean_activation"])
def test_rankers_that_use_activations_alone_do_not_open_the_network(
    kind: str, inputs: RankerInputs[HalvesSettings]
) -> None:
    def fail() -> ExaminedNetwork:
        pytest.fail("the network must not be opened")

    assert RANKERS[kind].score(replace(with_settings(inputs, kind), open_network=fail)).values


COMPLETE = ("conductance", "integrated_gradients", "deeplift")


@pytest.mark.parametrize("kind", RANKERS)
def test_complete_rankers_state_their_error_which_is_saved(
    kind: str, inputs: RankerInputs[HalvesSettings], tmp_path: Path
) -> None:
    scores = RANKERS[kind].score(with_settings(inputs, kind))
    assert (scores.completeness_error is not None) == (kind in COMPLETE)
    if scores.completeness_error is not None:
        assert 0 <= scores.completeness_error < (1e-4 if kind == "deeplift" else 0.05)
    scores.save(tmp_path)
    assert ChannelScores.load(tmp_path).completeness_error == scores.completeness_error


def test_deeplift_without_a_rule_is_rejected_after_one_batch(
    inputs: RankerInputs[HalvesSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rescale rule is replaced by the gradient, as Captum does for activations that it does not know.
    monkeypatch.setattr(rescale, "elementwise", lambda function, values: function(values))
    n_calls = 0

    def counted(*arguments: Any) -> list[torch.Tensor]:
        nonlocal n_calls
        n_calls += 1
        return of_batch(*arguments)

    of_batch = deeplift.contributions
    monkeypatch.setattr(deeplift, "contributions", counted)
    with pytest.raises(NetworkError) as refused:
        RANKERS["deeplift"].score(with_settings(inputs, "deeplift"))
    found = re.fullmatch(
        r"contributions must sum to the change of the class score within 1% for score=deeplift; got a difference of "
        r"(\S+) times that change\. Choose another ranker, for example score=integrated_gradients\.",
        str(refused.value),
    )
    assert found is not None
    assert float(found[1]) > 0.01
    assert n_calls == 1


def test_too_few_steps_are_rejected(inputs: RankerInputs[HalvesSettings]) -> None:
    steep = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Hardtanh(-1e-3, 1e-3), nn.Flatten(), nn.Linear(32, 2)).eval()
    images = TensorInputs(inputs.images.read(slice(None)))
    examined = ExaminedNetwork.of_module(steep, "0", lambda outputs: outputs[:, 1].double(), images.read(slice(2)))
    settings = compose_settings(["score=integrated_gradients", "score.n_steps=2", "score.bootstrap=0"]).score
    activations = activations_of(examined, images, 16, Workspace(), ignore)
    given = replace(
        inputs, settings=settings, open_network=lambda: examined, activations=activations,
        projections=Projections(*reduce_channels(activations.maps, 2, ignore)),
    )  # fmt: skip
    with pytest.raises(NetworkError, match=r"^contributions must sum to .* within 20% .* Raise score\.n_steps\.$"):
        RANKERS["integrated_gradients"].score(given)


def test_contributions_that_are_all_0_are_rejected(inputs: RankerInputs[HalvesSettings]) -> None:
    class Signs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, N_CHANNELS, 3), nn.Linear(N_CHANNELS, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(images).sign().mean(dim=(2, 3)))

    images = inputs.images.read(slice(2))
    examined = ExaminedNetwork.of_module(Signs().eval(), "conv", lambda outputs: outputs[:, 1].double(), images)
    given = replace(with_settings(inputs, "gradient_x_activation"), open_network=lambda: examined)
    with pytest.raises(NetworkError) as refused:
        RANKERS["gradient_x_activation"].score(given)
    assert str(refused.value) == (
        "contributions must not all be 0 for score=gradient_x_activation; got 0 for every image and each of the "
        f"{N_CHANNELS} channels (the gradient of the class score may be 0). Choose another ranker, for example "
        "score=pearson."
    )


@pytest.mark.parametrize("kind", [*COMPLETE, "gradient_x_activation", "ablation"])
def test_batches_are_smaller_for_a_layer_with_many_values(
    kind: str, inputs: RankerInputs[HalvesSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = RANKERS[kind].score(with_settings(inputs, kind)).values[kind]
    n_values = inputs.activations.maps[:, 0].size
    monkeypatch.setattr(inputs_module, "VALUES_IN_BATCH", 3 * n_values)
    sizes: set[int] = set()

    class Counted(TensorInputs):
        def read(self, images: slice) -> torch.Tensor:
            found = super().read(images)
            sizes.add(len(found))
            return found

    given = replace(with_settings(inputs, kind), images=Counted(inputs.images.read(slice(None))))
    np.testing.assert_allclose(RANKERS[kind].score(given).values[kind], expected, rtol=1e-4)
    assert max(sizes) == 3
