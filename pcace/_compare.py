"""`pcace.compare`: the agreement of rankings of the same channels, and what differs between networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import overload

import pandas as pd
from matplotlib.axes import Axes

from pcace._display import image
from pcace._network_comparison import NetworkComparison
from pcace._network_ranking import NetworkRanking
from pcace._plots import AxesArray, drawn
from pcace._ranking import Ranking
from pcace._wording import worded_for_python
from pipeline.arrays import FloatArray
from pipeline.errors import InputError
from pipeline.figures.comparison import draw_agreement, draw_slopes
from pipeline.figures.style import paper_style
from pipeline.numerics.agreement import MEASURES, Agreement, agreement, headings, ranks_by_channel


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The agreement of rankings of the same channels. `pcace.compare` returns it.

    Attributes
    ----------
    rankings : tuple of Ranking
        The rankings.
    labels : tuple of str
        Name of each ranking.
    agreement : Agreement
        Rank correlations and overlaps of each pair.

    Examples
    --------
    >>> import torch
    >>> import pcace
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.Flatten(), torch.nn.Linear(216, 1))
    >>> images = torch.rand(40, 1, 8, 8)
    >>> rankings = [pcace.rank(model, images, layer="0", ranker=name) for name in ("pearson", "mean_activation")]
    >>> pcace.compare(*rankings).to_frame()[["first", "second"]]
         first           second
    0  pearson  mean_activation
    """

    rankings: tuple[Ranking, ...]
    labels: tuple[str, ...]
    agreement: Agreement

    def to_frame(self) -> pd.DataFrame:
        """Return the agreement, one row for each pair.

        Returns
        -------
        DataFrame
            Columns ``first, second, spearman, kendall, rank_biased_overlap, top_overlap, top``.
        """
        return pd.DataFrame(
            [
                {"first": self.labels[i], "second": self.labels[j]}
                | {name: float(getattr(self.agreement, name)[i, j]) for name in MEASURES}
                | {"top": self.agreement.top}
                for i, j in combinations(range(len(self.rankings)), 2)
            ]
        )

    def plot(self) -> Axes:
        """Draw the rank of each of the best channels in all rankings (slope chart).

        Returns
        -------
        Axes
            The axes of the new figure.
        """
        axes: Axes = drawn(
            lambda make: draw_slopes(self._ranks, self.labels, self.agreement.top, self._question, make)
        )[0]
        return axes

    def plot_agreement(self) -> AxesArray:
        """Draw a heat map for each measure of agreement.

        Returns
        -------
        ndarray of Axes
            All axes of the new figure.
        """
        values = [getattr(self.agreement, name) for name in MEASURES]
        matrices = list(zip(headings(self.agreement.top), values, strict=True))
        return drawn(lambda make: draw_agreement(matrices, self.labels, self._question, make))

    @property
    def _ranks(self) -> list[FloatArray]:
        return [ranks_by_channel(each.to_frame()) for each in self.rankings]

    @property
    def _question(self) -> str:
        return f"{self.rankings[0].model}, {self.rankings[0].layer}"

    def __repr__(self) -> str:
        table = self.to_frame().to_string()
        return f"<Comparison of {len(self.rankings)} rankings of {self.rankings[0].layer}>\n{table}"

    def _repr_html_(self) -> str:
        shown = self.to_frame().drop(columns="top").set_axis(["first", "second", *headings(self.agreement.top)], axis=1)
        with paper_style():
            chart = image(
                draw_slopes(self._ranks, self.labels, self.agreement.top, self._question), "Ranks of channels"
            )
        table = shown.to_html(index=False, border=0, float_format=lambda value: f"{value:.3f}")
        return f"<div><h4>{escape(f'Agreement of rankings: {self._question}')}</h4>{table}{chart}</div>"


@overload
def compare(
    ranking: Ranking, other: Ranking, *more: Ranking, labels: Sequence[str] | None = None, top: int = 10
) -> Comparison: ...


@overload
def compare(
    ranking: NetworkRanking,
    other: NetworkRanking,
    *more: NetworkRanking,
    labels: Sequence[str] | None = None,
    top: int = 10,
) -> NetworkComparison: ...


@worded_for_python()
def compare(
    ranking: Ranking | NetworkRanking,
    other: Ranking | NetworkRanking,
    *more: Ranking | NetworkRanking,
    labels: Sequence[str] | None = None,
    top: int = 10,
) -> Comparison | NetworkComparison:
    """Compare rankings of the same channels, or rankings of networks.

    Parameters
    ----------
    ranking, other, *more : Ranking or NetworkRanking
        The rankings, all of one layer or all of networks. Networks may differ in their weights, in the class, or in
        their architecture.
    labels : sequence of str, optional
        Name of each ranking; by default the settings in which they differ.
    top : int, default=10
        Number of best channels whose overlap is computed; it is not used for networks.

    Returns
    -------
    Comparison or NetworkComparison
        The agreement of each pair of rankings, or what differs between the networks.

    Raises
    ------
    InputError
        If the rankings are of different layers, some are of networks and others are not, or `labels` are not one for
        each.

    Examples
    --------
    >>> import torch
    >>> import pcace
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.Flatten(), torch.nn.Linear(216, 1))
    >>> images = torch.rand(40, 1, 8, 8)
    >>> first = pcace.rank(model, images, layer="0", ranker="pearson")
    >>> float(pcace.compare(first, first).to_frame().spearman.iloc[0])
    1.0
    """
    rankings = (ranking, other, *more)
    networks = [each for each in rankings if isinstance(each, NetworkRanking)]
    single = [each for each in rankings if isinstance(each, Ranking)]
    if networks and single:
        raise InputError(
            "rankings must be all of one layer or all of networks; got "
            f"{len(networks)} of networks and {len(single)} of one layer. Take a layer of a network: network[layer]."
        )
    if labels is not None and len(labels) != len(rankings):
        raise InputError(f"labels must be one for each ranking; got {len(labels)} for {len(rankings)} rankings.")
    if top < 1:
        raise InputError(f"top must be at least 1; got {top}.")
    if networks:
        facts = [_facts(next(iter(each.values()))) for each in networks]
        return NetworkComparison.of(networks, _names(labels, facts, "network "))
    ranked = {(each.layer, len(each.channels)) for each in single}
    if len(ranked) > 1:
        found = " and ".join(f"{layer} ({n_channels} channels)" for layer, n_channels in sorted(ranked))
        raise InputError(
            f"rankings must be of the same channels; got {found}. "
            "Channels of different layers do not correspond to each other."
        )
    names = _names(labels, [_facts(each) for each in single])
    return Comparison(tuple(single), names, agreement([ranks_by_channel(each.to_frame()) for each in single], top))


def _facts(ranking: Ranking) -> dict[str, str]:
    """Return what rankings are named after if it differs."""
    return {
        "ranker": ranking.settings.score.kind,
        "by": str(ranking.to_frame()["by"].iloc[0]),
        "target": ranking.target,
        "model": ranking.model,
        "n_images": f"{ranking.n_images} images",
        "n_components": f"{ranking.settings.n_components} components",
        "seed": f"seed {ranking.settings.seed}",
    }


def _names(labels: Sequence[str] | None, facts: Sequence[dict[str, str]], noun: str = "") -> tuple[str, ...]:
    """Return the labels, or else the differences of the rankings, or their numbers if they do not differ."""
    if labels is not None:
        return tuple(map(str, labels))
    differing = [name for name in facts[0] if len({fact[name] for fact in facts}) > 1]
    if "ranker" in differing and "by" in differing:
        differing.remove("by")
    names = [", ".join(fact[name] for name in differing) for fact in facts]
    if len(set(names)) < len(names):
        numbers = [f"{noun}{number}" if noun else f"({number})" for number in range(1, len(names) + 1)]
        names = [
            f"{name}, {number}" if name and noun else f"{name} {number}".strip()
            for name, number in zip(names, numbers, strict=True)
        ]
    return tuple(names)
