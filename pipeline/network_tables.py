"""From the rankings of single layers to the ranking of the network.

The columns of the layers' table: ``layer, position`` (order of execution, from 0), ``depth`` (0 to 1, see
`pipeline.networks.layout.LayerInfo`), ``kind`` (class of the module), ``n_channels, height, width, n_components,
variance`` (mean share of the variance of a channel's maps that its components hold), ``reliability, accuracy,
n_significant, share_significant`` (channels whose q-value in the network is below .05), ``n_dead, lower_quartile,
median, upper_quartile`` (of what the network is ranked by, over the channels that vary), ``association,
association_low, association_high`` (of the layer as a whole, see `pipeline.numerics.probe`) and ``best_channels``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.artifacts import NetworkRanking, NetworkSummary, Probe, Projections, Ranking
from pipeline.network_answer import LABELS, sentences
from pipeline.networks.layout import LayerInfo
from pipeline.numerics.rank_statistics import false_discovery_rates
from pipeline.rankers import ranking_statistic
from pipeline.stages.rank import SIGNIFICANT

N_BEST = 5
MEASURED = ("score", "bias_corrected", "low", "high", "cross_fitted")


@dataclass(frozen=True)
class LayerResult:
    """What the ranking of the network takes from a layer.

    Attributes
    ----------
    info : LayerInfo
        The layer.
    ranking : Ranking
        Its ranking.
    probe : Probe
        What the layer as a whole says of the class score.
    n_components : int
        Number of components that the ranker used.
    variance : float
        Mean share of the variance that they hold, over the channels that vary.
    """

    info: LayerInfo
    ranking: Ranking
    probe: Probe
    n_components: int
    variance: float

    @classmethod
    def of(cls, info: LayerInfo, ranking: Ranking, probe: Probe, projections: Projections) -> LayerResult:
        """Return the result of a layer from its artifacts."""
        ratios, column = projections.explained_variance_ratio, ranking.table["n_components"].iloc[0]
        n_used = int(column) if float(column) >= 1 else ratios.shape[1]
        varying = ~projections.dead
        variance = float(ratios[varying, :n_used].sum(axis=1).mean()) if varying.any() else 0.0
        return cls(info, ranking, probe, n_used, variance)


def network_ranking(
    results: Sequence[LayerResult], not_ranked: Mapping[str, str], *, layer: str, model: str, target: str
) -> NetworkRanking:
    """Return the ranking of all channels of the network.

    Channels are ranked by the bias-corrected score where it was computed. Otherwise they are ranked by the cross-fitted
    score, which has no upward bias either, or else by the score. Equal values are ordered by the score, and then by the
    order of execution; dead channels are last.

    Parameters
    ----------
    results : sequence of LayerResult
        The layers, in the order of execution.
    not_ranked : mapping of str to str
        Why other layers were not ranked, by their names.
    layer : str
        The setting that selects the layers.
    model, target : str
        Name of the network, and what the channels are ranked for, for the sentences.
    """
    channels = pd.concat([_channels(result, position) for position, result in enumerate(results)], ignore_index=True)
    is_tested = channels.p_pooled.notna()
    channels["q"] = np.nan
    if is_tested.any():
        channels.loc[is_tested, "q"] = false_discovery_rates(channels.p_pooled[is_tested].to_numpy())
    by = next(name for name in ("bias_corrected", "cross_fitted", "score") if channels[name].notna().any())
    value = channels[by].fillna(-np.inf)
    order = np.lexsort((channels.channel, channels.position, -channels.score, -value, channels.dead))
    channels = channels.iloc[order].reset_index(drop=True)
    channels.insert(0, "rank", np.arange(1, len(channels) + 1))
    layers = pd.DataFrame([_layer(result, position, channels, by) for position, result in enumerate(results)])
    layers["n_significant"] = layers.n_significant.astype("Int64")
    reasons = pd.DataFrame({"layer": list(not_ranked), "reason": list(not_ranked.values())}, dtype=str)
    columns = [
        "rank", "layer", "position", "depth", "kind", "channel", "score", "bias_corrected", "low", "high", "q",
        "rank_in_layer", "cross_fitted", "dead",
    ]  # fmt: skip
    table = results[0].ranking.table
    n_images, ranked_by = int(table.n_images.iloc[0]), str(table.by.iloc[0])
    found = sentences(channels, layers, reasons, by=by, target=target, n_images=n_images)
    found.append(_comparability(layers, by, ranked_by))
    summary = NetworkSummary(model, target, layer, n_images, by, ranked_by, tuple(found))
    return NetworkRanking(channels[columns], layers, reasons, summary)


def _channels(result: LayerResult, position: int) -> pd.DataFrame:
    """Return the channels of one layer, in the order of its ranking."""
    table, info = result.ranking.table, result.info
    empty = pd.Series(np.nan, index=table.index, dtype=float)
    return pd.DataFrame(
        {
            "layer": info.name,
            "position": position,
            "depth": info.depth,
            "kind": info.type,
            "channel": table.channel,
            "score": table.score,
            "bias_corrected": table.get("corrected", empty),
            "low": table.get("low", empty),
            "high": table.get("high", empty),
            "rank_in_layer": table["rank"],
            "cross_fitted": table.get("cross_fitted", empty),
            "p_pooled": table.get("p_pooled", empty),
            "dead": table.dead,
        }
    )


def _layer(result: LayerResult, position: int, channels: pd.DataFrame, by: str) -> dict[str, object]:
    """Return the row of one layer."""
    info, trust, probe = result.info, result.ranking.trust, result.probe
    n_channels, height, width = info.maps
    own = channels[channels.position == position]
    varying = own[~own.dead]
    is_tested = bool(own.q.notna().any())
    n_significant = int((own.q < SIGNIFICANT).sum()) if is_tested else None
    lower, median, upper = varying[by].quantile([0.25, 0.5, 0.75]) if len(varying) else (np.nan,) * 3
    return {
        "layer": info.name,
        "position": position,
        "depth": info.depth,
        "kind": info.type,
        "n_channels": n_channels,
        "height": height,
        "width": width,
        "n_components": result.n_components,
        "variance": result.variance,
        "reliability": _number(trust.reliability),
        "accuracy": _number(trust.accuracy),
        "n_significant": _number(n_significant),
        "share_significant": np.nan if n_significant is None else n_significant / n_channels,
        "n_dead": int(own.dead.sum()),
        "lower_quartile": float(lower),
        "median": float(median),
        "upper_quartile": float(upper),
        "association": _number(probe.association),
        "association_low": _number(probe.low),
        "association_high": _number(probe.high),
        "best_channels": " ".join(str(channel) for channel in own.channel.head(N_BEST)),
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _comparability(layers: pd.DataFrame, by: str, ranked_by: str) -> str:
    """Return the sentence that says what can be compared between layers."""
    ordered = layers.sort_values("variance", kind="stable")
    least, most = ordered.iloc[0], ordered.iloc[-1]
    if not ranking_statistic(ranked_by).is_correlation:
        return (
            f"Scores by {ranked_by} of different layers have different scales, so compare the ranks in a layer; the "
            "ranks in the network favour layers with large scores."
        )
    if by == "score":
        return (
            "Scores of different layers are not corrected for their bias, which depends on the number of components "
            "and of images; compare the ranks in a layer."
        )
    return (
        f"{LABELS[by].capitalize()}s and q-values of different layers can be compared, since they account for chance; "
        "the scores themselves cannot, and a channel's components hold from "
        f"{least.variance:.0%} ({least.layer}) to {most.variance:.0%} ({most.layer}) of the variance of its maps, so "
        "that more of what a channel does may be missed in layers with large maps."
    )
