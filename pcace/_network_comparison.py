"""What differs between rankings of networks; `pcace.compare` returns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from pcace._display import image
from pcace._network_ranking import NetworkRanking
from pcace._plots import AxesArray, drawn
from pipeline.figures.network_comparison import draw_network_comparison
from pipeline.figures.style import paper_style
from pipeline.network_comparison import NetworkComparison as Compared
from pipeline.network_comparison import compare_networks


@dataclass(frozen=True, eq=False, repr=False)
class NetworkComparison:
    """What differs between rankings of networks. `pcace.compare` returns it.

    Networks with the same layers are compared layer by layer, different architectures in fifths of their depth.

    Attributes
    ----------
    rankings : tuple of NetworkRanking
        The rankings.
    labels : tuple of str
        Name of each network.

    Examples
    --------
    >>> import torch
    >>> import pcace
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(96, 3))
    >>> options = {"layer": ["0", "2"], "bootstrap": 20, "permutations": 20}
    >>> networks = [pcace.rank(model, torch.rand(60, 1, 8, 8), target=target, **options) for target in (1, 2)]
    >>> pcace.compare(*networks).to_frame().columns.tolist()[:3]
    ['part', 'association 1', 'share_significant 1']
    """

    rankings: tuple[NetworkRanking, ...]
    labels: tuple[str, ...]
    _found: Compared

    @classmethod
    def of(cls, rankings: Sequence[NetworkRanking], labels: Sequence[str]) -> NetworkComparison:
        """Return the comparison of at least two networks."""
        return cls(tuple(rankings), tuple(labels), compare_networks([each._tables for each in rankings], labels))

    @property
    def sentences(self) -> list[str]:
        """What differs, the most important first."""
        return list(self._found.sentences)

    @property
    def layers(self) -> pd.DataFrame:
        """A table of the layers of all networks, one row for each network and layer.

        The columns are ``network`` (its label), ``layer, depth, n_channels, n_significant, association,
        share_significant, reliability``, and ``spearman``: the rank correlation of the scores of the layer's channels
        with those in the first network, missing where the channels are not the same.
        """
        layers = self._found.layers.copy()
        layers["network"] = [self.labels[place] for place in layers.network]
        return layers

    def to_frame(self) -> pd.DataFrame:
        """Return the table that ``layers.csv`` of a comparison on the command line contains.

        Returns
        -------
        DataFrame
            One row for each layer that all networks have, or for each fifth of the depth (column ``part``), with the
            columns ``association``, ``share_significant`` and ``spearman``, each followed by the number of the network.
        """
        return self._found.table.copy()

    def plot(self) -> AxesArray:
        """Draw association, share of channels that stand out and agreement of the channels' ranks along the depth.

        Returns
        -------
        ndarray of Axes
            All axes of the new figure; there is one for each of the three that is known.
        """
        return drawn(lambda make: draw_network_comparison(self._found, make))

    def __repr__(self) -> str:
        labels = [f"{number}: {label}" for number, label in enumerate(self.labels, start=1)]
        return "\n".join(["<NetworkComparison>", *labels, *self.sentences, "", self._shown.to_string(index=False)])

    def _repr_html_(self) -> str:
        labels = "".join(f"<li>{escape(label)}</li>" for label in self.labels)
        sentences = "".join(f"<p>{escape(each)}</p>" for each in self.sentences)
        with paper_style():
            chart = image(draw_network_comparison(self._found), "Networks along their depth")
        table = self._shown.to_html(index=False, border=0)
        return f"<div><h4>Comparison of networks</h4><ol>{labels}</ol>{sentences}{table}{chart}</div>"

    @property
    def _shown(self) -> pd.DataFrame:
        return self._found.table.dropna(axis=1, how="all").round(3)
