"""What differs between a logged run and its repetition: rankings, and what they were made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import NetworkRanking

IDENTICAL, EQUAL, DIFFERENT = "identical to the byte", "equal within the method's sensitivity", "different"
# The limits of "equal within the method's sensitivity".
MAX_DIFFERENCE = 1e-4  # of scores that are continuous functions of the activations
MAX_DIFFERENCE_DISCRETE = 0.02  # of the supersmoother's ACE, and of mutual information, which is based on neighbours
SMALL_DIFFERENCE = 1e-5
MIN_SHARE_SMALL = 0.9
MIN_SPEARMAN = 0.999


@dataclass(frozen=True)
class RankingDifference:
    """The difference between two rankings.

    Attributes
    ----------
    is_identical : bool
        Whether the files are equal.
    has_same_channels : bool
        Whether both rank the same channels; if not, the other values are NaN.
    is_continuous : bool
        Whether small differences of the activations can only cause small differences of the scores.
    largest : float
        The largest absolute difference between the two scores of a channel, in units of the largest score if that is
        above 1.
    share_small : float
        Share of the channels whose scores differ by less than 1e-5, in the same units, in [0, 1].
    spearman : float
        Spearman correlation between the scores.
    """

    is_identical: bool
    has_same_channels: bool
    is_continuous: bool = True
    largest: float = float("nan")
    share_small: float = float("nan")
    spearman: float = float("nan")

    @property
    def verdict(self) -> str:
        """``identical to the byte``, ``equal within the method's sensitivity`` or ``different``."""
        if self.is_identical:
            return IDENTICAL
        most = MAX_DIFFERENCE if self.is_continuous else MAX_DIFFERENCE_DISCRETE
        is_small = self.largest < most and self.share_small >= MIN_SHARE_SMALL
        is_equal = self.has_same_channels and is_small and self.spearman > MIN_SPEARMAN
        return EQUAL if is_equal else DIFFERENT

    @property
    def sentence(self) -> str:
        """How much the scores differ."""
        if not self.has_same_channels:
            return "The channels are not the same."
        return (
            f"Scores differ by at most {self.largest:.2g}, {self.share_small:.0%} of them by less than 1e-5; Spearman "
            f"correlation {self.spearman:.5f}."
        )


def compare_rankings(old: bytes, new: bytes) -> RankingDifference:
    """Return the difference between two rankings, given the contents of their ``ranking.csv``."""
    first, second = (pd.read_csv(BytesIO(data)).set_index("channel").sort_index() for data in (old, new))
    if not first.index.equals(second.index):
        return RankingDifference(is_identical=False, has_same_channels=False)
    scale = max(1.0, float(first.score.abs().max()), float(second.score.abs().max()))
    difference = (first.score - second.score).abs() / scale
    return RankingDifference(
        is_identical=old == new,
        has_same_channels=True,
        is_continuous="iterations" not in first and set(first.by) != {"mutual_information"},
        largest=float(difference.max()),
        share_small=float((difference < SMALL_DIFFERENCE).mean()),
        spearman=_spearman(first.score, second.score),
    )


def _spearman(first: pd.Series[float], second: pd.Series[float]) -> float:
    """Return the Spearman correlation; 1 for equal values, for which it is not defined if all of them are the same."""
    return 1.0 if first.equals(second) else float(first.corr(second, method="spearman"))


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Yield ``name: old -> new`` for every value that is not the same in two nested mappings.

    Parameters
    ----------
    old, new : mapping
        The mappings. A key that only one of them has counts as None in the other.
    name : str
        Prefix of the dotted names.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
    elif old != new:
        yield f"{name}: {_shortened(old)} -> {_shortened(new)}"


def _shortened(value: Any) -> str:
    """Return a value as text; of a digest, only the first characters."""
    text = "none" if value is None else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


@dataclass(frozen=True)
class NetworkDifference:
    """The difference between two rankings of a network.

    Attributes
    ----------
    layers : mapping of str to RankingDifference
        The difference in each layer that both have ranked.
    has_same_layers : bool
        Whether both have ranked the same layers.
    has_same_tables : bool
        Whether the files of the network's tables are equal.
    association : float
        The largest absolute difference between the associations of a whole layer; infinite if only one of the two is
        known.
    """

    layers: Mapping[str, RankingDifference]
    has_same_layers: bool
    has_same_tables: bool
    association: float

    @property
    def verdict(self) -> str:
        """The verdict on the layer that differs most, see `RankingDifference.verdict`, if nothing else differs."""
        verdicts = {each.verdict for each in self.layers.values()}
        if not self.has_same_layers or DIFFERENT in verdicts or self.association >= MAX_DIFFERENCE:
            return DIFFERENT
        return IDENTICAL if verdicts == {IDENTICAL} and self.has_same_tables else EQUAL

    @property
    def sentences(self) -> list[str]:
        """What differs: in how many layers, how much in each of them, and in the tables of the network."""
        if self.verdict == IDENTICAL:
            return []
        differing = {layer: each for layer, each in self.layers.items() if not each.is_identical}
        found = [f"{len(self.layers) - len(differing)} of the rankings of {len(self.layers)} layers are {IDENTICAL}."]
        if not self.has_same_layers:
            found.append("The layers that were ranked are not the same.")
        found += [f"{layer} is {each.verdict}. {each.sentence}" for layer, each in differing.items()]
        if self.association > 0:
            found.append(f"The associations of whole layers differ by at most {self.association:.2g}.")
        return found


def compare_networks(
    old: Mapping[str, bytes], new: Mapping[str, bytes], old_tables: Mapping[str, bytes], new_tables: Mapping[str, bytes]
) -> NetworkDifference:
    """Return the difference between two rankings of a network.

    Parameters
    ----------
    old, new : mapping of str to bytes
        Content of ``ranking.csv`` of each layer.
    old_tables, new_tables : mapping of str to bytes
        Content of the tables of the network, by the names of their files.
    """
    first, second = (
        pd.read_csv(BytesIO(tables[NetworkRanking.LAYERS_CSV]), dtype={"layer": str})
        .set_index("layer")
        .association.astype(float)
        for tables in (old_tables, new_tables)
    )
    common = [layer for layer in first.index if layer in second.index]
    change = (first[common] - second[common]).abs().where(first[common].notna() | second[common].notna(), 0.0)
    return NetworkDifference(
        layers={layer: compare_rankings(old[layer], new[layer]) for layer in old if layer in new},
        has_same_layers=set(old) == set(new),
        has_same_tables=dict(old_tables) == dict(new_tables),
        association=float(change.fillna(np.inf).max()) if common else 0.0,
    )


def differences_of_layers(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences between the keys of all layers; those with the same name are returned for one layer."""
    found: dict[str, str] = {}
    for layer in [each for each in old if each in new]:
        for line in differences(old[layer], new[layer]):
            found.setdefault(line.partition(": ")[0], line)
    return list(found.values())
