"""The ranking of the channels of several layers of a network, and what is known of each layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from pipeline.artifacts.base import Artifact
from pipeline.spreadsheets import marked_table


@dataclass(frozen=True)
class NetworkSummary:
    """What is said of a ranking of a network besides its tables.

    Attributes
    ----------
    model : str
        Name of the network.
    target : str
        What the channels are ranked for, in words, such as ``class cat``.
    layer : str
        The setting `layer`, which selects the layers.
    n_images : int
        Number of images.
    by : str
        Column of the channels' table that the network is ranked by: ``bias_corrected`` or, where it was not computed,
        ``cross_fitted`` or ``score``.
    statistic : str
        What the channels of each layer are ranked by: the column ``by`` of their rankings.
    sentences : tuple of str
        What a reader must know, the answer first.
    """

    model: str
    target: str
    layer: str
    n_images: int
    by: str
    statistic: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class NetworkRanking(Artifact):
    """The channels of several layers in one order, the layers, and those that could not be ranked.

    Attributes
    ----------
    channels : DataFrame
        One row for each channel, best first: ``rank, layer, position, depth, kind, channel, score, bias_corrected, low,
        high, q, rank_in_layer, cross_fitted, dead``. Columns that were not computed are NaN.
    layers : DataFrame
        One row for each layer, in the order of execution; see `pipeline.network_tables`.
    not_ranked : DataFrame
        The columns ``layer, reason``: layers that were selected and cannot be ranked.
    summary : NetworkSummary
        What is said of the network as a whole.
    """

    channels: pd.DataFrame
    layers: pd.DataFrame
    not_ranked: pd.DataFrame
    summary: NetworkSummary

    name = "network"
    TABLES = ("network", "layers", "not_ranked")
    CHANNELS_CSV, LAYERS_CSV, NOT_RANKED_CSV = (f"{name}.csv" for name in TABLES)
    SUMMARY = "network.json"

    @property
    def sentences(self) -> list[str]:
        """What a reader must know, the answer first."""
        return list(self.summary.sentences)

    @property
    def description(self) -> str:
        """Number of channels and of layers."""
        return f"{len(self.channels):,} channels of {len(self.layers)} layers"

    def metrics(self) -> dict[str, float]:
        """Return a few numbers for comparing networks."""
        by, n_significant = self.channels[self.summary.by], self.layers.n_significant
        tested = {} if n_significant.isna().all() else {"n_significant": int(n_significant.sum())}
        return {
            "score.best": float(by.max()),
            "score.median": float(by.median()),
            "n_layers": len(self.layers),
            "n_channels": len(self.channels),
            "n_dead": int(self.channels.dead.sum()),
            **tested,
        }

    def save(self, folder: Path) -> Self:
        """Write the tables as CSV, and as Parquet for programs, and the sentences as JSON."""
        for name, table in zip(self.TABLES, (self.channels, self.layers, self.not_ranked), strict=True):
            marked_table(table).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
            table.to_parquet(folder / f"{name}.parquet", index=False)
        (folder / self.SUMMARY).write_text(json.dumps(asdict(self.summary), indent=1) + "\n", encoding="utf-8")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        values: Mapping[str, Any] = json.loads((folder / cls.SUMMARY).read_text(encoding="utf-8"))
        summary = NetworkSummary(**{**values, "sentences": tuple(values["sentences"])})
        channels, layers, not_ranked = (pd.read_parquet(folder / f"{name}.parquet") for name in cls.TABLES)
        return cls(channels, layers, not_ranked, summary)
