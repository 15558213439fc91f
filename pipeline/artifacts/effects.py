"""The effects of ablation, and the faithfulness of the ranking."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import pandas as pd

from pipeline.artifacts.base import Artifact, own_files
from pipeline.spreadsheets import marked_table


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
    """

    spearman: float | None = None
    deletion_area: float | None = None
    insertion_area: float | None = None
    random_deletion_area: float | None = None
    random_insertion_area: float | None = None
    mode: str | None = None

    @property
    def sentence(self) -> str | None:
        """The sentence that a reader should know; None if the rank correlation is not defined."""
        if self.spearman is None:
            return None
        value = f"Spearman {self.spearman:.2f}".replace("0.", ".", 1)
        if self.spearman >= 0.5:
            return f"The faithfulness is high: the scores agree with the effects of ablation ({value})."
        if self.spearman >= 0.25:
            return f"The faithfulness is moderate: the scores agree in part with the effects of ablation ({value})."
        return (
            f"The faithfulness is low: the scores hardly agree with the effects of ablation ({value}). A channel may "
            "be associated with the class score without influencing it."
        )


@dataclass(frozen=True)
class Effects(Artifact):
    """The effects of ablating channels on the class score, and the faithfulness of the ranking.

    Attributes
    ----------
    table : DataFrame
        One row for each varying channel, best first: ``rank, channel, score``, and for each of the modes ``zero``,
        ``mean`` and ``resample`` the mean absolute change of the class score, and its mean change (``zero_signed``).
        Empty if no channel was ablated.
    curves : DataFrame
        See `pipeline.numerics.faithfulness.ablation_curves`.
    faithfulness : Faithfulness
        A summary of both.
    note : str
        The reason why no channel was ablated, if it is not obvious; otherwise empty.
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
        return f"{len(self.table)} channels{agreement}"

    def save(self, folder: Path) -> Self:
        """Write both tables as CSV, and the summary as JSON."""
        summary = {**asdict(self.faithfulness), "note": self.note}
        (folder / self.SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        if self.is_measured:
            marked_table(self.table).to_csv(folder / self.CSV, index=False, lineterminator="\n")
            self.curves.to_csv(folder / self.CURVES, index=False, lineterminator="\n")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        summary = json.loads((folder / cls.SUMMARY).read_text(encoding="utf-8"))
        note = summary.pop("note")
        if cls.CSV not in own_files(folder):
            return cls(note=note)
        table, curves = pd.read_csv(folder / cls.CSV), pd.read_csv(folder / cls.CURVES)
        return cls(table, curves, Faithfulness(**summary), note)
