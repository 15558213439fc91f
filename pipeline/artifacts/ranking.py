"""The ranking of the channels, and its reliability."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from pipeline.artifacts.base import Artifact
from pipeline.spreadsheets import marked_table


@dataclass(frozen=True)
class Trust:
    """The reliability of a whole ranking; None if it was not requested.

    Attributes
    ----------
    reliability : float or None
        Split-half reliability: expected rank correlation with the ranking from as many other images, computed from
        random halves with the Spearman-Brown formula.
    images_for_reliable : float or None
        Estimated number of images for a reliability of 0.9; infinite if the halves do not agree at all.
    n_significant : int or None
        Number of channels with a q-value below 0.05.
    curve : tuple of (int, float)
        Reliability curve: a number of images, and the Spearman correlation between the rankings from two disjoint sets
        of that many images.
    stands_for : str or None
        Name of the statistic that the halves were ranked by, if the ranking is by another one: halves have no evidence.
    completeness_error : float or None
        For attributions that are complete: the difference between the sum of all contributions and the change of the
        class score, summed over the images, as a share of that change. None for other rankers.
    """

    reliability: float | None = None
    images_for_reliable: float | None = None
    n_significant: int | None = None
    curve: tuple[tuple[int, float], ...] = ()
    stands_for: str | None = None
    completeness_error: float | None = None

    ENOUGH = 0.7
    SMALL_ERROR, LARGE_ERROR = 1e-4, 0.05

    @property
    def accuracy(self) -> float | None:
        """Estimated Spearman correlation with the ranking from an unlimited number of images, in [0, 1].

        It is the square root of the reliability (classical test theory: the correlation of a measurement with the true
        values is the square root of its correlation with another measurement with independent errors). None without a
        reliability, or if the halves were ranked by another statistic.
        """
        if self.reliability is None or self.stands_for is not None:
            return None
        return float(max(self.reliability, 0.0) ** 0.5)

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
            value = _decimals(self.reliability)
            measured = f"split-half reliability{by} is {value} with {n_images} images"
            if self.is_low:
                found.append(f"This ranking is not reliable: its {measured}; {more} images would bring it to .9.")
            elif needed > n_images:
                found.append(f"The ranking's {measured}; {more} images would bring it to .9.")
            else:
                found.append(f"The ranking's {measured}.")
        if self.accuracy is not None:
            found.append(
                "Its estimated accuracy, the agreement with the ranking from an unlimited number of images, is "
                f"{_decimals(self.accuracy)} (Spearman correlation)."
            )
        if self.n_significant is not None:
            found.append(f"{self.n_significant} of {n_channels} channels score above the permutation null (q < .05).")
        if self.completeness_error is not None:
            share = max(self.completeness_error, self.SMALL_ERROR)
            measured = f"by {'less than ' * (share > self.completeness_error)}{100 * share:.2g} % of that change"
            if self.completeness_error > self.LARGE_ERROR:
                found.append(
                    f"The contributions do not sum to the change of the class score: they differ {measured}. A larger "
                    "score.n_steps would bring them closer."
                )
            else:
                found.append(f"The contributions sum to the change of the class score; they differ {measured}.")
        return found


def _decimals(value: float) -> str:
    """Return two decimals without the leading zero."""
    return f"{value:.2f}".replace("0.", ".", 1)


@dataclass(frozen=True)
class Ranking(Artifact):
    """The channels in order of their scores, and the reliability of this order.

    Attributes
    ----------
    table : DataFrame
        One row for each channel, best first, with the columns ``rank, channel, score, ...``; see
        `pipeline.stages.rank.run`.
    trust : Trust
        The reliability.
    """

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
        """Return a few numbers for comparing runs. The median of the scores is over the varying channels."""
        table = self.table
        return {
            "score.best": float(table.score.max()),
            "score.median": float(table[~table.dead].score.median()),
            "score.share_above_half": float((table.score > 0.5).mean()),
            "n_channels": len(table),
            "n_dead": int(table.dead.sum()),
        }

    def save(self, folder: Path) -> Self:
        """Write the table as CSV and as Parquet, and its reliability as JSON."""
        (folder / self.TRUST).write_text(json.dumps(asdict(self.trust), indent=1) + "\n", encoding="utf-8")
        marked_table(self.table).to_csv(folder / self.CSV, index=False, lineterminator="\n")
        self.table.to_parquet(folder / self.PARQUET, index=False)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        trust = json.loads((folder / cls.TRUST).read_text(encoding="utf-8"))
        curve = tuple((int(images), float(value)) for images, value in trust.pop("curve"))
        return cls(pd.read_parquet(folder / cls.PARQUET), Trust(**trust, curve=curve))
