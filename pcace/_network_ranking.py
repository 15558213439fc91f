"""The result of a ranking of several layers of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from pcace._ranking import Ranking
from pipeline.artifacts import NetworkRanking as NetworkTables

N_SHOWN = 10
CHANNELS_SHOWN = ["rank", "layer", "channel", "rank_in_layer", "score", "bias_corrected", "low", "high", "q"]
LAYERS_SHOWN = ["layer", "kind", "n_channels", "n_significant", "median", "reliability", "association", "best_channels"]


class NetworkRanking(Mapping[str, Ranking]):
    """The channels of several layers in one order, and the ranking of each layer.

    `pcace.rank` returns it for several layers. It is a mapping from the names of the layers, in the order of execution,
    to their rankings.

    Parameters
    ----------
    tables : pipeline.artifacts.NetworkRanking
        The tables of the network.
    rankings : mapping of str to Ranking
        The rankings of the layers.

    Examples
    --------
    >>> import torch
    >>> import pcace
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(96, 3))
    >>> network = pcace.rank(model, torch.rand(60, 1, 8, 8), layer=["0", "2"], target=2, bootstrap=20, permutations=20)
    >>> list(network)
    ['0', '2']
    >>> len(network.to_frame())
    10
    >>> network["2"].layer
    '2'
    """

    def __init__(self, tables: NetworkTables, rankings: Mapping[str, Ranking]) -> None:
        self._tables, self._rankings = tables, dict(rankings)

    def __getitem__(self, layer: str) -> Ranking:
        """Return the ranking of one layer.

        Raises
        ------
        KeyError
            If the layer was not ranked.
        """
        return self._rankings[layer]

    def __iter__(self) -> Iterator[str]:
        """Return the names of the layers, in the order of execution."""
        return iter(self._rankings)

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._rankings)

    @property
    def layers(self) -> pd.DataFrame:
        """A table of the layers with the columns of ``layers.csv``, in the order of execution."""
        return self._tables.layers.copy()

    @property
    def not_ranked(self) -> pd.DataFrame:
        """The layers that were selected and could not be ranked, with the reasons."""
        return self._tables.not_ranked.copy()

    @property
    def sentences(self) -> list[str]:
        """What a reader must know, the answer first."""
        return self._tables.sentences

    def to_frame(self) -> pd.DataFrame:
        """Return the table of all channels, with the columns of ``network.csv``: one row per channel, best first.

        Returns
        -------
        DataFrame
            A copy, which may be changed.
        """
        return self._tables.channels.copy()

    def save(self, folder: str | Path) -> Path:
        """Save the tables, and each ranking into a folder below ``layers``, from which `pcace.load` reads it.

        Parameters
        ----------
        folder : str or Path
            Folder, which is created if it does not exist.

        Returns
        -------
        Path
            The folder.
        """
        folder = Path(folder)
        (folder / "layers").mkdir(parents=True, exist_ok=True)
        self._tables.save(folder)
        for layer, ranking in self._rankings.items():
            ranking.save(folder / "layers" / layer.replace("/", "_"))
        return folder

    def __repr__(self) -> str:
        summary = self._tables.summary
        return (
            f"<NetworkRanking of {self._tables.description} of {summary.model} for {summary.target}, "
            f"{summary.n_images} images>"
        )

    def __str__(self) -> str:
        parts = [f"{self._heading}.", *self.sentences, "", self._layers.to_string(index=False), ""]
        return "\n".join([*parts, self._channels.to_string(index=False), f"{self._tables.description} in all."])

    def _repr_html_(self) -> str:
        from html import escape

        sentences = "".join(f"<p>{escape(each)}</p>" for each in self.sentences)
        tables = self._layers.to_html(index=False) + self._channels.to_html(index=False)
        return f"<div><h4>{escape(self._heading)}</h4>{sentences}{tables}</div>"

    @property
    def _heading(self) -> str:
        summary = self._tables.summary
        return f"{self._tables.description} of {summary.model} ranked for {summary.target} by {summary.n_images} images"

    @property
    def _layers(self) -> pd.DataFrame:
        return self._tables.layers[LAYERS_SHOWN].dropna(axis=1, how="all").round(3)

    @property
    def _channels(self) -> pd.DataFrame:
        return self._tables.channels.head(N_SHOWN)[CHANNELS_SHOWN].dropna(axis=1, how="all").round(3)
