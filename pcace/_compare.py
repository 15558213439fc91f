"""`pcace.compare`: the agreement of rankings of the same channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations

import pandas as pd
from matplotlib.axes import Axes

from pcace._display import image
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
        return f"<Comparison of {len(self.rankings)} rankings of {self.rankings[0].layer}>\n{self.to_frame()}"

    def _repr_html_(self) -> str:
        shown = self.to_frame().drop(columns="top").set_axis(["first", "second", *headings(self.agreement.top)], axis=1)
        with paper_style():
            chart = image(
                draw_slopes(self._ranks, self.labels, self.agreement.top, self._question), "Ranks of channels"
            )
        table = shown.to_html(index=False, border=0, float_format=lambda value: f"{value:.3f}")
        return f"<div><h4>{escape(f'Agreement of rankings: {self._question}')}</h4>{table}{chart}</div>"


@worded_for_python()
def compare(
    ranking: Ranking, other: Ranking, *more: Ranking, labels: Sequence[str] | None = None, top: int = 10
) -> Comparison:
    """Compare rankings of the same channels.

    Parameters
    ----------
    ranking, other, *more : Ranking
        The rankings.
    labels : sequence of str, optional
        Name of each ranking; by default the settings in which they differ.
    top : int, default=10
        Number of best channels whose overlap is computed.

    Returns
    -------
    Comparison
        The agreement of each pair.

    Raises
    ------
    InputError
        If the rankings are of different layers, or `labels` are not one for each.

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
    ranked = {(each.layer, len(each.channels)) for each in rankings}
    if len(ranked) > 1:
        found = " and ".join(f"{layer} ({n_channels} channels)" for layer, n_channels in sorted(ranked))
        raise InputError(
            f"rankings must be of the same channels; got {found}. "
            "Channels of different layers do not correspond to each other."
        )
    if labels is not None and len(labels) != len(rankings):
        raise InputError(f"labels must be one for each ranking; got {len(labels)} for {len(rankings)} rankings.")
    if top < 1:
        raise InputError(f"top must be at least 1; got {top}.")
    names = tuple(map(str, labels)) if labels is not None else tuple(_labels(rankings))
    return Comparison(rankings, names, agreement([ranks_by_channel(each.to_frame()) for each in rankings], top))


def _labels(rankings: Sequence[Ranking]) -> list[str]:
    """Return the differences of the rankings as their names, or their numbers if they do not differ."""
    facts = [
        {
            "ranker": each.settings.score.kind,
            "by": str(each.to_frame()["by"].iloc[0]),
            "target": each.target,
            "model": each.model,
            "n_images": f"{each.n_images} images",
            "n_components": f"{each.settings.n_components} components",
            "seed": f"seed {each.settings.seed}",
        }
        for each in rankings
    ]
    differing = [name for name in facts[0] if len({fact[name] for fact in facts}) > 1]
    if "ranker" in differing and "by" in differing:
        differing.remove("by")
    labels = [", ".join(fact[name] for name in differing) for fact in facts]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({number})".strip() for number, label in enumerate(labels, start=1)]
    return labels
