"""What differs between the rankings of several networks: checkpoints, classes, or architectures.

Networks of the same name whose common layers are at the same depth, and networks with the same layers, are compared
layer by layer. Others are different architectures, which are compared by relative depth even if some of their layers
have the same name. The name alone does not suffice: in Python it is that of the class, such as ``ResNet``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.artifacts import NetworkRanking
from pipeline.network_answer import decimals
from pipeline.numerics.faithfulness import rank_correlation

N_PARTS = 5  # parts of the depth in which networks without common layers are compared


@dataclass(frozen=True)
class NetworkComparison:
    """The result of a comparison of networks.

    Attributes
    ----------
    labels : tuple of str
        Name of each network.
    layers : DataFrame
        One row per network and layer: ``network`` (place of the network), ``layer, depth, association,
        share_significant, reliability, spearman``. ``spearman`` is the rank correlation of the scores of the layer's
        channels with those in the first network; missing where the channels are not the same.
    table : DataFrame
        One row per layer that all networks have, or else per part of the depth, with the name in the column ``part``
        and the columns ``association``, ``share_significant`` and ``spearman`` with the number of the network behind,
        such as ``association 2``.
    is_by_layer : bool
        Whether the rows of `table` are layers.
    sentences : tuple of str
        What differs, the most important first.
    """

    labels: tuple[str, ...]
    layers: pd.DataFrame
    table: pd.DataFrame
    is_by_layer: bool
    sentences: tuple[str, ...]


def compare_networks(rankings: Sequence[NetworkRanking], labels: Sequence[str]) -> NetworkComparison:
    """Compare the rankings of at least two networks.

    Parameters
    ----------
    rankings : sequence of NetworkRanking
        The rankings. Channels are compared between networks of the same name and architecture, in layers with the same
        name and the same number of channels.
    labels : sequence of str
        Name of each network.
    """
    first = rankings[0]
    has_same_channels = [place > 0 and _has_same_name(first, each) for place, each in enumerate(rankings)]
    layers = pd.concat(
        [_layers(first if has_same_channels[place] else None, each, place) for place, each in enumerate(rankings)],
        ignore_index=True,
    )
    common = set.intersection(*(set(ranking.layers.layer) for ranking in rankings))
    is_by_layer = bool(common) and all(_is_same(first, each) for each in rankings[1:])
    table = _by_layer(layers, first, common, len(rankings)) if is_by_layer else _by_depth(layers, len(rankings))
    sentences = [_most_associated(rankings, labels, is_by_layer=is_by_layer)]
    for place in range(1, len(rankings)):
        sentences += _changes(table, labels, place, is_by_layer=is_by_layer)
    if is_by_layer and any(len(common) < len(ranking.layers) for ranking in rankings):
        sentences.append(f"The networks have {len(common)} layers in common; only these are compared layer by layer.")
    return NetworkComparison(tuple(labels), layers, table, is_by_layer, tuple(sentences))


def _is_same(first: NetworkRanking, other: NetworkRanking) -> bool:
    """Return whether two networks have the same architecture, or the same layers with the same numbers of channels."""
    columns = ["layer", "n_channels"]
    return _has_same_name(first, other) or (
        first.layers[columns].to_numpy().tolist() == other.layers[columns].to_numpy().tolist()
    )


def _has_same_name(first: NetworkRanking, other: NetworkRanking) -> bool:
    """Return whether two networks have the same name, and their common layers the same kind and depth."""
    common = first.layers.merge(other.layers, on="layer", suffixes=(None, "_other"))
    is_same_place = (common.kind == common.kind_other) & np.isclose(common.depth, common.depth_other)
    return first.summary.model == other.summary.model and bool(is_same_place.all())


def _layers(first: NetworkRanking | None, ranking: NetworkRanking, place: int) -> pd.DataFrame:
    """Return the layers of one network, and the agreement of their channels with those of `first` unless it is None."""
    kept = ["layer", "depth", "n_channels", "n_significant", "association", "share_significant", "reliability"]
    found = ranking.layers[kept].copy()
    found.insert(0, "network", place)
    found["spearman"] = [_agreement(first, ranking, name) for name in found.layer]
    return found


def _agreement(first: NetworkRanking | None, other: NetworkRanking, layer: str) -> float:
    """Return Spearman's correlation of the scores of a layer's channels that vary in both networks; NaN without one."""
    if first is None:
        return float("nan")
    own = [each.channels[each.channels.layer == layer].set_index("channel").sort_index() for each in (first, other)]
    if not own[0].index.equals(own[1].index):
        return float("nan")
    varying = ~(own[0].dead | own[1].dead)
    found = rank_correlation(own[0].score[varying].to_numpy(), own[1].score[varying].to_numpy())
    return float("nan") if found is None else found


def _by_layer(layers: pd.DataFrame, first: NetworkRanking, common: set[str], n_networks: int) -> pd.DataFrame:
    names = [name for name in first.layers.layer if name in common]
    columns: dict[str, object] = {"part": names}
    for place in range(n_networks):
        own = layers[layers.network == place].set_index("layer").loc[names]
        for name in ("association", "share_significant", *(["spearman"] if place else [])):
            columns[f"{name} {place + 1}"] = own[name].to_numpy()
    return pd.DataFrame(columns)


def _by_depth(layers: pd.DataFrame, n_networks: int) -> pd.DataFrame:
    """Return the mean association and the share of channels that stand out in equal parts of the depth."""
    part = np.minimum((layers.depth * N_PARTS).astype(int), N_PARTS - 1)
    columns: dict[str, object] = {
        "part": [f"depth {place / N_PARTS:.1f} to {(place + 1) / N_PARTS:.1f}" for place in range(N_PARTS)]
    }
    for place in range(n_networks):
        own = layers[layers.network == place].groupby(part)
        columns[f"association {place + 1}"] = own.association.mean().reindex(range(N_PARTS)).to_numpy()
        share = own.n_significant.sum(min_count=1) / own.n_channels.sum()
        columns[f"share_significant {place + 1}"] = share.reindex(range(N_PARTS)).to_numpy()
    return pd.DataFrame(columns)


def _most_associated(rankings: Sequence[NetworkRanking], labels: Sequence[str], *, is_by_layer: bool) -> str:
    """Return the sentence about the layer with the largest association in each network."""
    best = []
    for ranking in rankings:
        known = ranking.layers[ranking.layers.association.notna()]
        best.append(None if known.empty else known.sort_values("association", ascending=False, kind="stable").iloc[0])
    found = [(layer, label) for layer, label in zip(best, labels, strict=True) if layer is not None]
    if not found:
        return "The association of whole layers was not computed in any network."
    is_same = is_by_layer and len({ranking.summary.model for ranking in rankings}) == 1
    if is_same and len(found) == len(labels) and len({layer.layer for layer, _ in found}) == 1:
        values = ", ".join(f"{decimals(layer.association)} for {label}" for layer, label in found)
        return f"{found[0][0].layer} is the layer that is most closely associated with the score everywhere ({values})."
    parts = [
        f"{layer.layer} at depth {decimals(layer.depth)} for {label} ({decimals(layer.association)})"
        for layer, label in found
    ]
    return f"The layer that is most closely associated with the score is {'; '.join(parts)}."


def _changes(table: pd.DataFrame, labels: Sequence[str], place: int, *, is_by_layer: bool) -> list[str]:
    """Return the sentences about the largest differences between the first network and another one."""
    found = []
    where = "in {}" if is_by_layer else "at {}"
    for name, noun, text in (
        ("association", "the association of whole layers", decimals),
        ("share_significant", "the share of channels that stand out", lambda value: f"{value:.0%}"),
    ):
        before, after = table[f"{name} 1"], table[f"{name} {place + 1}"]
        change = (after - before).abs()
        if change.notna().any() and change.max() > 0:
            largest = int(np.nanargmax(change))
            at = where.format(table.part[largest])
            found.append(
                f"From {labels[0]} to {labels[place]}, {noun} differs most {at}: from {text(before[largest])} to "
                f"{text(after[largest])}."
            )
        elif change.notna().any():
            found.append(f"From {labels[0]} to {labels[place]}, {noun} does not differ.")
    if f"spearman {place + 1}" in table and table[f"spearman {place + 1}"].notna().any():
        agreement = table[f"spearman {place + 1}"]
        least, most = int(np.nanargmin(agreement)), int(np.nanargmax(agreement))
        found.append(
            f"The order of the channels of {labels[place]} agrees with that of {labels[0]} most in {table.part[most]} "
            f"(Spearman correlation {decimals(agreement[most])}) and least in {table.part[least]} "
            f"({decimals(agreement[least])})."
        )
    return found
