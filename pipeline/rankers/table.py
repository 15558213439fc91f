"""The table of all rankers.

A new ranker is one entry here, its kind in `pipeline.settings.score`, and a file ``conf/score/<kind>.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from pipeline.networks import contributions
from pipeline.networks.layout import LayerInfo
from pipeline.numerics import association
from pipeline.rankers.ace import score_by_ace
from pipeline.rankers.images import mean_magnitude, score_by_images
from pipeline.rankers.ranker import Ranker, RankerInputs, Scorer, Statistic, nothing_needed
from pipeline.settings import AceSettings, PathRankerSettings, RankerSettings

ACE = Ranker(
    "ace",
    AceSettings,
    (
        Statistic("maximal", "maximal correlation", is_correlation=True),
        Statistic("first", "|corr(first transform, theta)|", is_correlation=True),
    ),
    score_by_ace,
)

# What channels can be ranked by beside a ranker's own statistics (`rank.by`): columns of the evidence.
EVIDENCE = (
    Statistic("cross_fitted", "cross-fitted correlation", is_correlation=True),
    Statistic("excess", "standard deviations above the null mean", is_correlation=False),
    Statistic("q_value", "standard deviations above the null mean", is_correlation=False),
)


def _pearson(inputs: RankerInputs) -> Scorer:
    means, class_score = inputs.activations.means(), inputs.activations.class_score
    return lambda chosen: association.pearson(means[:, chosen], class_score[chosen])


def _multiple_correlation(inputs: RankerInputs) -> Scorer:
    values, class_score = inputs.projections.values, inputs.activations.class_score
    return lambda chosen: association.multiple_correlation(values[:, chosen], class_score[chosen])


def _distance_correlation(inputs: RankerInputs) -> Scorer:
    values, class_score = inputs.projections.values, inputs.activations.class_score
    return lambda chosen: association.distance_correlation(values[:, chosen], class_score[chosen])


def _mutual_information(inputs: RankerInputs) -> Scorer:
    means, class_score = inputs.activations.means(), inputs.activations.class_score
    return lambda chosen: association.mutual_information(means[:, chosen], class_score[chosen], inputs.seed)


def _weight_norm(inputs: RankerInputs) -> Scorer:
    norms = contributions.weight_norms(inputs.open_network())
    return lambda _chosen: norms


def _mean_activation(inputs: RankerInputs) -> Scorer:
    means = inputs.activations.means()
    return lambda chosen: means[:, chosen].mean(axis=1)


def _gradient_x_activation(inputs: RankerInputs) -> Scorer:
    return mean_magnitude(inputs, contributions.gradient_x_activation(inputs.open_network()))


def _conductance(inputs: RankerInputs) -> Scorer:
    return mean_magnitude(inputs, contributions.conductance(inputs.open_network(), inputs.settings.n_steps))


def _integrated_gradients(inputs: RankerInputs) -> Scorer:
    return mean_magnitude(inputs, contributions.integrated_gradients(inputs.open_network(), inputs.settings.n_steps))


def _deeplift(inputs: RankerInputs) -> Scorer:
    return mean_magnitude(inputs, contributions.deeplift(inputs.open_network()))


def _ablation(inputs: RankerInputs) -> Scorer:
    return mean_magnitude(inputs, contributions.ablation(inputs.open_network(), inputs.images.read(slice(3))))


def _by_images(
    kind: str,
    label: str,
    scorer: Callable[[RankerInputs], Scorer],
    *,
    is_correlation: bool = False,
    settings: type[RankerSettings | PathRankerSettings] = RankerSettings,
    check: Callable[[nn.Module, LayerInfo], None] = nothing_needed,
) -> Ranker:
    """Return the entry of a ranker whose scores can be computed from any subset of the images."""
    statistic = Statistic(kind, label, is_correlation)
    return Ranker(
        kind, settings, (statistic,), lambda inputs: score_by_images(kind, scorer, inputs), scorer=scorer, check=check
    )


_ENTRIES = (
    ACE,
    _by_images("pearson", "|Pearson| of the mean activation", _pearson, is_correlation=True),
    _by_images("multiple_correlation", "multiple correlation R", _multiple_correlation, is_correlation=True),
    _by_images("distance_correlation", "distance correlation", _distance_correlation, is_correlation=True),
    _by_images("mutual_information", "mutual information (nats)", _mutual_information),
    _by_images("weight_norm", "L2 norm of the weights", _weight_norm, check=contributions.check_weights_of_channels),
    _by_images("mean_activation", "mean activation", _mean_activation),
    _by_images("gradient_x_activation", "mean |gradient x activation|", _gradient_x_activation),
    _by_images("conductance", "mean |layer conductance|", _conductance, settings=PathRankerSettings),
    _by_images(
        "integrated_gradients", "mean |integrated gradients|", _integrated_gradients, settings=PathRankerSettings
    ),
    _by_images("deeplift", "mean |DeepLIFT|", _deeplift, check=contributions.check_traceable),
    _by_images("ablation", "mean |change without the channel|", _ablation),
)

RANKERS: Mapping[str, Ranker] = {ranker.kind: ranker for ranker in _ENTRIES}

_STATISTICS = {each.name: each for ranker in _ENTRIES for each in ranker.statistics} | {
    each.name: each for each in EVIDENCE
}


def ranking_statistic(by: str) -> Statistic:
    """Return what a ranking's scores are, by its column ``by``."""
    return _STATISTICS[by]
