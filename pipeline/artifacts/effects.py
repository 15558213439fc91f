"""The effects of ablation, and the faithfulness of the ranking."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import pandas as pd

from pipeline.artifacts.base import Artifact, own_files
from pipeline.spreadsheets import marked_table

LEVELS = {
    "high": "the scores agree with the effects of ablation",
    "moderate": "the scores agree in part with the effects of ablation",
    "low": "the scores hardly agree with the effects of ablation",
}
MEANING = " A channel may be associated with the class score without influencing it."


@dataclass(frozen=True)
class Faithfulness:
    """The agreement of a ranking with the effects of ablation; None if it was not measured or is not defined.

    Attributes
    ----------
    spearman : float or None
        Rank correlation over the varying channels, in [-1, 1], between the ranking's score and the mean absolute change
        of the class score when the channel is set to zero.
    deletion_area, insertion_area : float or None
        Area under the curve of the normalised class score as the best channels are ablated (small for a faithful
        ranking), and as only the best channels are kept (large); see `pipeline.numerics.faithfulness.ablation_curves`.
    random_deletion_area, random_insertion_area : float or None
        The same areas for channels in random orders.
    mode : {"zero", "mean", "resample"} or None
        Kind of ablation for the curves.
    spearman_low, spearman_high : float or None
        95 % confidence interval of `spearman`, over the images and over the channels that were drawn at random; see
        `pipeline.numerics.sampled_effects.agreement`.
    deletion_area_low, deletion_area_high, insertion_area_low, insertion_area_high : float or None
        95 % confidence intervals of the areas, over the images.
    n_channels, n_varying : int or None
        Number of varying channels that were ablated alone, and of all varying channels.
    n_best : int or None
        Number of best channels that were ablated, besides a random sample; None if all channels were.
    n_images, n_all_images : int or None
        Number of images that the effects were measured on, and of all images.
    """

    spearman: float | None = None
    deletion_area: float | None = None
    insertion_area: float | None = None
    random_deletion_area: float | None = None
    random_insertion_area: float | None = None
    mode: str | None = None
    spearman_low: float | None = None
    spearman_high: float | None = None
    deletion_area_low: float | None = None
    deletion_area_high: float | None = None
    insertion_area_low: float | None = None
    insertion_area_high: float | None = None
    n_channels: int | None = None
    n_varying: int | None = None
    n_best: int | None = None
    n_images: int | None = None
    n_all_images: int | None = None

    @property
    def extent(self) -> str | None:
        """Which channels and images the effects were measured on, in words; None if it is all of them."""
        if self.n_best is None and self.n_images == self.n_all_images:
            return None
        channels = f"{self.n_channels} of {self.n_varying} channels (the best {self.n_best}, others at random)"
        images = f"{self.n_images} of {self.n_all_images} images"
        return images if self.n_best is None else f"{channels} and {images}"

    @property
    def interval(self) -> str | None:
        """The confidence interval of the rank correlation; None if it is not known."""
        if self.spearman_low is None or self.spearman_high is None:
            return None
        return f"{_correlation(self.spearman_low)} to {_correlation(self.spearman_high)}"

    @property
    def sentence(self) -> str | None:
        """The sentence that a reader should know; None if the rank correlation is not defined."""
        if self.spearman is None:
            return None
        value = f"Spearman {_correlation(self.spearman)}"
        level, low, high = (
            _level(self.spearman if each is None else each)
            for each in (self.spearman, self.spearman_low, self.spearman_high)
        )
        if self.extent is not None:
            if self.interval is not None:
                value += f", 95 % confidence interval {self.interval}"
            within = level if low == high else f"between {low} and {high}"
            return f"The faithfulness is {within}, as estimated for all channels from {self.extent} ({value})."
        return f"The faithfulness is {level}: {LEVELS[level]} ({value}).{MEANING if level == 'low' else ''}"


def _level(spearman: float) -> str:
    return "high" if spearman >= 0.5 else "moderate" if spearman >= 0.25 else "low"


def _correlation(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1)


@dataclass(frozen=True)
class Effects(Artifact):
    """The effects of ablating channels on the class score, and the faithfulness of the ranking.

    Attributes
    ----------
    table : DataFrame
        One row for each varying channel, best first: ``rank, channel, score``, and for each of the modes ``zero``,
        ``mean`` and ``resample`` the mean absolute change of the class score, and its mean change (``zero_signed``);
        NaN for channels that were not ablated. Empty if no channel was.
    curves : DataFrame
        See `pipeline.numerics.faithfulness.ablation_curves`. Empty if they were not measured.
    faithfulness : Faithfulness
        A summary of both.
    note : str
        Why not all channels were ablated on all images, if it is not obvious; otherwise empty.
    """

    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    faithfulness: Faithfulness = Faithfulness()
    note: str = ""

    name = "effects"
    CSV = "effects.csv"
    CURVES = "curves.csv"
    SUMMARY = "faithfulness.json"

    @property
    def is_measured(self) -> bool:
        """Whether channels were ablated."""
        return len(self.table) > 0

    @property
    def description(self) -> str:
        """Number of channels that were ablated, and the rank correlation of their effects with the ranking."""
        if not self.is_measured:
            return "no channels ablated"
        spearman = self.faithfulness.spearman
        agreement = "" if spearman is None else f", Spearman {spearman:.2f} with the ranking"
        return f"{self.table.zero.notna().sum()} channels{agreement}"

    def save(self, folder: Path) -> Self:
        """Write both tables as CSV, and the summary as JSON."""
        summary = {**asdict(self.faithfulness), "note": self.note}
        (folder / self.SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        if self.is_measured:
            marked_table(self.table).to_csv(folder / self.CSV, index=False, lineterminator="\n")
        if len(self.curves):
            self.curves.to_csv(folder / self.CURVES, index=False, lineterminator="\n")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        summary = json.loads((folder / cls.SUMMARY).read_text(encoding="utf-8"))
        note = summary.pop("note")
        files = own_files(folder)
        table, curves = (
            pd.read_csv(folder / name) if name in files else pd.DataFrame() for name in (cls.CSV, cls.CURVES)
        )
        return cls(table, curves, Faithfulness(**summary), note)
