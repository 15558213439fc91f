"""The ranking of the channels, and how far it can be trusted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from pipeline.artifacts.base import Artifact


@dataclass(frozen=True)
class Trust:
    """How far a whole ranking can be trusted; None where it was not asked.

    Attributes
    ----------
    reliability : float or None
        Expected rank correlation with the ranking by as many other images (split halves, Spearman and Brown).
    images_for_reliable : float or None
        About how many images would bring it to .9; infinite where halves do not agree at all.
    n_significant : int or None
        Channels with q < .05.
    curve : tuple of (int, float)
        Images, and the Spearman correlation of the rankings by two sets of so many.
    stands_for : str or None
        What halves were ranked by, where it is not what the ranking is by: halves are scored by the statistic alone.
    """

    reliability: float | None = None
    images_for_reliable: float | None = None
    n_significant: int | None = None
    curve: tuple[tuple[int, float], ...] = ()
    stands_for: str | None = None

    ENOUGH = 0.7

    @property
    def is_low(self) -> bool:
        """Whether the ranking is not reliable: its split-half reliability is below `ENOUGH`."""
        return self.reliability is not None and self.reliability < self.ENOUGH

    def sentences(self, n_images: int, n_channels: int) -> list[str]:
        """Return the sentences that a reader should know, the most important one first.

        Parameters
        ----------
        n_images : int
            Number of images of the run.
        n_channels : int
            Number of varying channels.
        """
        found = []
        if self.reliability is not None and self.images_for_reliable is not None:
            needed = self.images_for_reliable
            more = f"about {round(needed, -2 if needed >= 1000 else -1):,.0f}" if needed < 1e6 else "far more"
            by = f" (of the ranking by {self.stands_for})" if self.stands_for else ""
            value = f"{self.reliability:.2f}".replace("0.", ".", 1)
            measured = f"split-half reliability{by} is {value} with {n_images} images"
            if self.is_low:
                found.append(f"This ranking is not reliable: its {measured}; {more} images would bring it to .9.")
            elif needed > n_images:
                found.append(f"The ranking's {measured}; {more} images would bring it to .9.")
            else:
                found.append(f"The ranking's {measured}.")
        if self.n_significant is not None:
            found.append(f"{self.n_significant} of {n_channels} channels score above the permutation null (q < .05).")
        return found


@dataclass(frozen=True)
class Ranking(Artifact):
    """The channels, best first: one row each, columns ``rank, channel, score, ...``; and how far to trust them."""

    table: pd.DataFrame
    trust: Trust = Trust()

    name = "ranking"
    CSV = "ranking.csv"
    PARQUET = "ranking.parquet"
    TRUST = "trust.json"

    @property
    def description(self) -> str:
        """Number of channels."""
        return f"{len(self.table)} channels"

    @property
    def sentences(self) -> list[str]:
        """What a reader must know of the ranking as a whole, the most important first."""
        return self.trust.sentences(int(self.table.n_images.iloc[0]), int((~self.table.dead).sum()))

    def summary(self) -> dict[str, float]:
        """Return a few numbers that compare: of the scores (the median of the living) and of the channels."""
        table = self.table
        return {
            "score.best": float(table.score.max()),
            "score.median": float(table[~table.dead].score.median()),
            "score.share_above_half": float((table.score > 0.5).mean()),
            "n_channels": len(table),
            "n_dead": int(table.dead.sum()),
        }

    def save(self, folder: Path) -> Self:
        """Write CSV for people and Parquet for programs, and the trust in it as JSON."""
        (folder / self.TRUST).write_text(json.dumps(asdict(self.trust), indent=1) + "\n", encoding="utf-8")
        self.table.to_csv(folder / self.CSV, index=False, lineterminator="\n")
        self.table.to_parquet(folder / self.PARQUET, index=False)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the table in `folder`."""
        trust = json.loads((folder / cls.TRUST).read_text(encoding="utf-8"))
        curve = tuple((int(images), float(value)) for images, value in trust.pop("curve"))
        return cls(pd.read_parquet(folder / cls.PARQUET), Trust(**trust, curve=curve))
