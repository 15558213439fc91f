"""The table of all rankers.

The modules that compute scores are imported when scores are computed: they import torch, SciPy and scikit-learn.

To add a ranker, add an entry to `_ENTRIES`, its kind to a class in `pipeline.settings.score`, and a file
``conf/score/<kind>.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pipeline.artifacts import ChannelScores
from pipeline.networks.examined import ExaminedNetwork
from pipeline.rankers.ranker import Check, Ranker, RankerInputs, Scorer, Statistic, no_requirements
from pipeline.settings import AceSettings, HalvesSettings, OtherSettings, PathRankerSettings, RankerSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipeline.networks.contributed import Contributions, ContributionsOfLayers
    from pipeline.networks.layout import LayerInfo

SettingsT = TypeVar("SettingsT", bound=HalvesSettings)
OtherT = TypeVar("OtherT", RankerSettings, PathRankerSettings)
AnyInputs = RankerInputs[HalvesSettings]


def _score_by_ace(inputs: RankerInputs[AceSettings]) -> ChannelScores:
    from pipeline.rankers.ace import score_by_ace

    return score_by_ace(inputs)


ACE = Ranker(
    "ace",
    AceSettings,
    (
        Statistic("maximal", "maximal correlation", is_correlation=True),
        Statistic("penalised", "penalised maximal correlation", is_correlation=True),
        Statistic("first", "|corr(first transform, theta)|", is_correlation=True),
    ),
    _score_by_ace,
)

# Columns of the evidence that channels can be ranked by, in addition to the statistics of the rankers (`rank.by`). A
# ranking by q-values is ordered by the excess where q-values are equal, and shows the excess as its score.
EVIDENCE = (
    Statistic("cross_fitted", "cross-fitted correlation", is_correlation=True),
    Statistic("excess", "standard deviations above the null mean", is_correlation=False),
    Statistic("q_value", "standard deviations above the null mean", is_correlation=False),
)


def _pearson(inputs: AnyInputs) -> Scorer:
    from pipeline.numerics import association

    means, class_score = inputs.activations.means(), inputs.activations.class_score
    return Scorer(lambda chosen: association.pearson(means[:, chosen], class_score[chosen]))


def _multiple_correlation(inputs: AnyInputs) -> Scorer:
    from pipeline.numerics import association
    from pipeline.numerics.predictors import Predictors

    values, class_score = inputs.projections.values, inputs.activations.class_score
    predictors = Predictors(values)
    return Scorer(lambda chosen: association.multiple_correlation(predictors.of_images(chosen), class_score[chosen]))


def _distance_correlation(inputs: AnyInputs) -> Scorer:
    from pipeline.numerics import association

    values, class_score = inputs.projections.values, inputs.activations.class_score
    return Scorer(lambda chosen: association.distance_correlation(values[:, chosen], class_score[chosen]))


def _mutual_information(inputs: AnyInputs) -> Scorer:
    from pipeline.numerics import association

    means, class_score = inputs.activations.means(), inputs.activations.class_score
    return Scorer(lambda chosen: association.mutual_information(means[:, chosen], class_score[chosen], inputs.seed))


def _weight_norm(inputs: AnyInputs) -> Scorer:
    from pipeline.networks.weights import weight_norms

    norms = weight_norms(inputs.open_network(), inputs.images.read(slice(2)))
    return Scorer(lambda _chosen: norms)


def _mean_activation(inputs: AnyInputs) -> Scorer:
    means = inputs.activations.means()
    return Scorer(lambda chosen: means[:, chosen].mean(axis=1))


def _mean_magnitude(inputs: RankerInputs[OtherSettings], contributions: ContributionsOfLayers) -> Scorer:
    from pipeline.rankers.images import mean_magnitude

    return mean_magnitude(inputs, contributions)


def _mean_magnitude_of_one(inputs: RankerInputs[OtherSettings], contributions: Contributions) -> Scorer:
    from pipeline.networks.contributed import one_layer

    return _mean_magnitude(inputs, one_layer(contributions))


def _gradient_x_activation(layers: Sequence[ExaminedNetwork], settings: RankerSettings) -> ContributionsOfLayers:
    from pipeline.networks import contributions

    del settings
    return contributions.gradient_x_activation(layers)


def _conductance(layers: Sequence[ExaminedNetwork], settings: PathRankerSettings) -> ContributionsOfLayers:
    from pipeline.networks.conductance import conductance

    return conductance(layers, settings.n_steps)


def _integrated_gradients(inputs: RankerInputs[PathRankerSettings]) -> Scorer:
    from pipeline.networks import contributions

    found = contributions.integrated_gradients(inputs.open_network(), inputs.settings.n_steps)
    return _mean_magnitude_of_one(inputs, found)


def _deeplift(inputs: RankerInputs[RankerSettings]) -> Scorer:
    from pipeline.networks import contributions

    return _mean_magnitude_of_one(inputs, contributions.deeplift(inputs.open_network()))


def _ablation(inputs: RankerInputs[RankerSettings]) -> Scorer:
    from pipeline.networks import contributions

    found = contributions.ablation(inputs.open_network(), inputs.images.read(slice(3)))
    return _mean_magnitude_of_one(inputs, found)


def _check_weights(network: nn.Module, layer: LayerInfo, example: torch.Tensor) -> None:
    from pipeline.networks.weights import check_weights_of_channels

    check_weights_of_channels(network, layer, example)


def _check_gradients(network: nn.Module, layer: LayerInfo, example: torch.Tensor) -> None:
    from pipeline.networks.contributions import check_gradients

    check_gradients(network, layer, example)


def _check_rules(network: nn.Module, layer: LayerInfo, example: torch.Tensor) -> None:
    from pipeline.networks.contributions import check_rules

    check_rules(network, layer, example)


def _by_attribution(
    kind: str,
    label: str,
    settings: type[OtherT],
    attribution: Callable[[Sequence[ExaminedNetwork], OtherT], ContributionsOfLayers],
) -> Ranker:
    """Return the entry of a ranker by contributions that are computed for several layers in the same passes.

    Parameters
    ----------
    kind, label, settings
        As in `_by_images`.
    attribution : callable
        See `Ranker.attribution`.
    """

    def scorer(inputs: RankerInputs[OtherT]) -> Scorer:
        return _mean_magnitude(inputs, attribution([inputs.open_network()], inputs.settings))

    found = _by_images(kind, label, settings, scorer, check=_check_gradients, runs_network=True)
    return replace(found, attribution=attribution)


def _by_images(
    kind: str,
    label: str,
    settings: type[SettingsT],
    scorer: Callable[[RankerInputs[SettingsT]], Scorer],
    *,
    is_correlation: bool = False,
    check: Check = no_requirements,
    runs_network: bool = False,
) -> Ranker:
    """Return the entry of a ranker whose scores can be computed from any subset of the images.

    Parameters
    ----------
    kind : str
        Name of the ranker, and of its only statistic.
    label : str
        Description of the statistic in figures and reports.
    settings : type
        Class of the ranker's settings. A type checker compares it with the settings that `scorer` takes.
    scorer : callable
        From the inputs to the function that scores the channels with subsets of the images.
    is_correlation : bool
        Whether the statistic is a correlation.
    check, runs_network
        See `Ranker`.
    """

    def score(inputs: RankerInputs[SettingsT]) -> ChannelScores:
        from pipeline.rankers.images import score_by_images

        return score_by_images(kind, scorer, inputs)

    statistic = Statistic(kind, label, is_correlation)
    return Ranker(kind, settings, (statistic,), score, scorer, check=check, runs_network=runs_network)


_ENTRIES = (
    ACE,
    _by_images("pearson", "|Pearson| of the mean activation", RankerSettings, _pearson, is_correlation=True),
    _by_images(
        "multiple_correlation", "multiple correlation R", RankerSettings, _multiple_correlation, is_correlation=True
    ),
    _by_images(
        "distance_correlation", "distance correlation", RankerSettings, _distance_correlation, is_correlation=True
    ),
    _by_images("mutual_information", "mutual information (nats)", RankerSettings, _mutual_information),
    _by_images(
        "weight_norm",
        "L2 norm of the weights",
        RankerSettings,
        _weight_norm,
        check=_check_weights,
    ),
    _by_images("mean_activation", "mean activation", RankerSettings, _mean_activation),
    _by_attribution("gradient_x_activation", "mean |gradient x activation|", RankerSettings, _gradient_x_activation),
    _by_attribution("conductance", "mean |layer conductance|", PathRankerSettings, _conductance),
    _by_images(
        "integrated_gradients",
        "mean |integrated gradients|",
        PathRankerSettings,
        _integrated_gradients,
        check=_check_gradients,
        runs_network=True,
    ),
    _by_images("deeplift", "mean |DeepLIFT|", RankerSettings, _deeplift, check=_check_rules, runs_network=True),
    _by_images("ablation", "mean |change without the channel|", RankerSettings, _ablation, runs_network=True),
)

RANKERS: Mapping[str, Ranker] = {ranker.kind: ranker for ranker in _ENTRIES}

_STATISTICS = {each.name: each for ranker in _ENTRIES for each in ranker.statistics} | {
    each.name: each for each in EVIDENCE
}


def ranking_statistic(by: str) -> Statistic:
    """Return the statistic that channels are ranked by; `by` is the value of a ranking's column ``by``."""
    return _STATISTICS[by]
