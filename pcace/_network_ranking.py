"""The result of a ranking of several layers of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pcace._network_figures import NetworkFigures
from pcace._ranking import Ranking
from pcace._wording import worded_for_python
from pipeline.artifacts import NetworkRanking as NetworkTables

if TYPE_CHECKING:
    from pipeline.figures.network_channels import PicturedChannel

N_SHOWN = 10
MAX_LAYERS = 30  # number of layers that are shown as text; of more, those with the largest values are shown
CHANNELS_SHOWN = ["rank", "layer", "channel", "rank_in_layer", "score", "bias_corrected", "low", "high", "q"]
LAYERS_SHOWN = ["layer", "kind", "n_channels", "n_significant", "median", "reliability", "association", "best_channels"]


class NetworkRanking(Mapping[str, Ranking], NetworkFigures):
    """The channels of several layers in one order, and the ranking of each layer.

    `pcace.rank` returns it for several layers, and `pcace.load`. It is a mapping from the names of the layers, in the
    order of execution, to their rankings. In a notebook, it is shown with the sentences on which layers matter, the
    layers, the best channels and a figure.

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
        self._tables, self._rankings = tables, rankings

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

    @worded_for_python()
    def report(self, path: str | Path) -> Path:
        """Write the page of the network, and the report of each layer, which the page links to.

        The reports of the layers have smaller pictures than those of single rankings, and are in the folder
        ``network_layers`` for the page ``network.html``. Class activation maps and activation maximisation are computed
        here for each layer, see `Ranking.report`.

        Parameters
        ----------
        path : str or Path
            File of the page.

        Returns
        -------
        Path
            The file.
        """
        from pcace._network_report import write_pages

        write_pages(Path(path), self._tables, self)
        return Path(path)

    @worded_for_python()
    def save(self, folder: str | Path) -> Path:
        """Save the tables and the rankings of the layers to a folder, from which `pcace.load` reads them.

        Each folder below ``layers`` can be read alone as well. The folder takes about as much space as the activation
        maps of all layers.

        Parameters
        ----------
        folder : str or Path
            A folder that does not exist, is empty, or contains a saved ranking, which is replaced.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        StorageError
            If the folder contains something else.
        """
        from pcace._saved import save_network

        return save_network(Path(folder), self._tables, self)

    @worded_for_python()
    def log(self, run: object) -> None:
        """Log the network to an MLflow run, and each layer to a run of its own, as the command line does.

        The run gets the tables, the page with the reports of the layers, figures, metrics along the depth, and the
        settings as parameters; it is not ended, and keeps its own parameters and description. The runs of the layers
        are new ones in the same experiment, with the tag ``network``. Once the run has ended, ``pcace compare``
        compares the network with others.

        Parameters
        ----------
        run : mlflow.entities.Run, str or True
            The run, its id, or True for the active run.

        Raises
        ------
        StorageError
            If there is no such run, or if it has a network already.
        """
        from pcace._network_log import log_network_in_memory
        from pipeline.tracking.ranking import run_id_of

        log_network_in_memory(run_id_of(run), self._tables, self)

    def _pictured(self, n_channels: int) -> list[PicturedChannel]:
        from pcace._network_report import best_channels

        return best_channels(self._tables, self, n_channels)

    def __repr__(self) -> str:
        summary = self._tables.summary
        return (
            f"<NetworkRanking of {self._tables.description} of {summary.model} for {summary.target}, "
            f"{summary.n_images} images>"
        )

    def __str__(self) -> str:
        layers, shown = self._layers
        parts = [f"{self._heading}.", *self.sentences, "", layers.to_string(index=False), *([shown] if shown else [])]
        return "\n".join([*parts, "", self._channels.to_string(index=False), f"{self._tables.description} in all."])

    def _repr_html_(self) -> str:
        from html import escape

        from pcace._display import network_figure

        layers, shown = self._layers
        sentences = [
            f"<strong>{escape(each)}</strong>" if not i else escape(each) for i, each in enumerate(self.sentences)
        ]
        parts = [layers.to_html(index=False, border=0), *([f"<p>{escape(shown)}</p>"] if shown else [])]
        parts += [self._channels.to_html(index=False, border=0), f"<p>{escape(self._tables.description)} in all.</p>"]
        return (
            f"<div><h4>{escape(self._heading)}</h4>{''.join(f'<p>{each}</p>' for each in sentences)}{''.join(parts)}"
            f"{network_figure(self._tables)}</div>"
        )

    @property
    def _heading(self) -> str:
        summary = self._tables.summary
        return f"{self._tables.description} of {summary.model} ranked for {summary.target} by {summary.n_images} images"

    @property
    def _layers(self) -> tuple[pd.DataFrame, str]:
        """The table of the layers, and a sentence that says which of them it contains if these are not all."""
        layers = self._tables.layers
        by = next(name for name in ("association", "median") if name == "median" or layers[name].notna().any())
        largest = layers.sort_values(by, ascending=False, kind="stable").head(MAX_LAYERS)
        shown = layers.loc[sorted(largest.index), LAYERS_SHOWN].dropna(axis=1, how="all").round(3)
        name = "median score" if by == "median" else by
        return shown, "" if len(shown) == len(layers) else (
            f"The {len(shown)} of {len(layers)} layers with the largest {name}; the attribute layers has all."
        )

    @property
    def _channels(self) -> pd.DataFrame:
        return self._tables.channels.head(N_SHOWN)[CHANNELS_SHOWN].dropna(axis=1, how="all").round(3)
