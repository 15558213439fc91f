"""The result of a ranking: tables, figures, a report, and a folder that it can be saved to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from pipeline.artifacts import Ablations, Activations, Artifact, ChannelScores, Effects, ImageSet, Projections, Trust
from pipeline.artifacts import Ranking as RankingTable
from pipeline.errors import InputError
from pipeline.files import write_whole
from pipeline.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pcace._pictures import KeptPictures
    from pcace._plots import AxesArray
    from pipeline.figures.ranked_layer import RankedLayer


@dataclass(frozen=True, eq=False, repr=False)
class Ranking:
    """The channels of a layer in order of their scores, and how reliable this order is.

    `pcace.rank` and `pcace.load` return it. In a notebook, it is shown with the sentences on its reliability, the best
    channels and the curve of the scores.

    Attributes
    ----------
    settings : Settings
        The settings of the ranking.
    target : str
        What the channels are ranked for, in words.
    images : ImageSet
        Numbers of the images, and which of them are copies of others.
    activations : Activations
        The maps of the layer and the class scores.
    projections : Projections
        The principal components of the maps.
    scores : ChannelScores
        The scores of all statistics, the evidence for them, and the transforms of ACE.
    effects : Effects
        The effects of ablation; empty if no channel was ablated (setting ``ablate.when``).

    Examples
    --------
    >>> import torch
    >>> import pcace
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.Flatten(), torch.nn.Linear(216, 1))
    >>> ranking = pcace.rank(model, torch.rand(60, 1, 8, 8), layer="0", bootstrap=20, permutations=0)
    >>> ranking.to_frame().columns[:3].tolist()
    ['rank', 'channel', 'score']
    >>> len(ranking.sentences) > 0
    True
    """

    settings: Settings
    target: str
    images: ImageSet
    activations: Activations
    projections: Projections
    scores: ChannelScores
    effects: Effects
    _ablations: Ablations
    _ranking: RankingTable
    _pictures: KeptPictures

    @classmethod
    def of(
        cls,
        settings: Settings,
        target: str,
        images: ImageSet,
        artifacts: Mapping[str, Artifact],
        pictures: KeptPictures,
    ) -> Self:
        """Return the result of the stages; `artifacts` are their artifacts by name."""
        made: dict[str, Any] = dict(artifacts)
        return cls(
            settings=settings,
            target=target,
            images=images,
            activations=made[Activations.name],
            projections=made[Projections.name],
            scores=made[ChannelScores.name],
            effects=made[Effects.name],
            _ablations=made[Ablations.name],
            _ranking=made[RankingTable.name],
            _pictures=pictures,
        )

    @property
    def layer(self) -> str:
        """Dotted path of the layer."""
        return self.settings.layer

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.settings.model.name

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def channels(self) -> list[int]:
        """The channels, best first; dead channels are last."""
        return [int(channel) for channel in self._ranking.table.channel]

    @property
    def trust(self) -> Trust:
        """Reliability of the ranking as numbers."""
        return self._ranking.trust

    @property
    def sentences(self) -> list[str]:
        """What a reader must know of the ranking as a whole, the most important sentence first."""
        faithful = self.effects.faithfulness.sentence
        copies = self.images.note
        return [
            *self._ranking.sentences,
            *([faithful] if faithful else []),
            *([f"{copies[:1].upper()}{copies[1:]}."] if copies else []),
        ]

    def to_frame(self) -> pd.DataFrame:
        """Return the table of the ranking, with the columns of ``ranking.csv``: one row per channel, best first.

        Returns
        -------
        DataFrame
            A copy, which may be changed.
        """
        return self._ranking.table.copy()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the scores by rank, with the permutation null and the confidence intervals.

        Parameters
        ----------
        ax : Axes, optional
            Axes to draw into; those of a new figure by default.

        Returns
        -------
        Axes
            The axes.
        """
        from pcace._plots import plot_curve

        return plot_curve(self._ranking.table, self._question, ax)

    def plot_maps(
        self,
        channels: int | Sequence[int] | None = None,
        *,
        images: Sequence[int] | None = None,
        overlay: bool = False,
    ) -> AxesArray:
        """Draw the activation maps of some channels, beside the images or over them.

        Parameters
        ----------
        channels : int or sequence of int, optional
            Indices of the channels; the best and the last ones by default.
        images : sequence of int, optional
            Indices of the images; by default those that activate each channel most.
        overlay : bool, default=False
            Whether the maps are drawn over the images.

        Returns
        -------
        ndarray of Axes
            All axes of the new figure.
        """
        from pcace._plots import plot_maps

        chosen = [channels] if isinstance(channels, int | np.integer) else channels
        return plot_maps(
            self._ranked,
            () if chosen is None else self._existing("channels", chosen, len(self.channels)),
            None if images is None else self._existing("images", images, self.n_images),
            overlay=overlay,
        )

    def plot_transforms(self, channel: int | None = None) -> AxesArray:
        """Draw ACE's transforms of the components and of the class score for one channel.

        Parameters
        ----------
        channel : int, optional
            Index of the channel; the best one by default.

        Returns
        -------
        ndarray of Axes
            All axes of the new figure.

        Raises
        ------
        InputError
            If the ranker is not ACE.
        """
        from pcace._plots import plot_transforms

        if self.scores.fit is None:
            raise InputError(
                f"the ranker must be ace for a figure of the transforms; got {self.settings.score.kind}. "
                'Rank with ranker="ace".'
            )
        (index,) = self._existing("channel", [self.channels[0] if channel is None else channel], len(self.channels))
        return plot_transforms(self._ranked, index)

    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML page with all results, which needs no network connection.

        Class activation maps and inputs that maximise channels are not part of it, because they need the network.

        Parameters
        ----------
        path : str or Path
            File of the page.

        Returns
        -------
        Path
            The file.
        """
        from pcace._report import report_page

        path = Path(path)
        write_whole(path, report_page(self._ranked, self._notes))
        return path

    def log(self, run: object) -> None:
        """Log the table, the report, the settings and a few metrics to an MLflow run, which is not ended.

        Parameters
        ----------
        run : mlflow.entities.Run, str or True
            The run, its id, or True for the active run. The files are in the folder of the run with the layer's name.
        """
        from pipeline.tracking.ranking import log_ranking, run_id_of

        log_ranking(run_id_of(run), self.layer, self._ranking, asdict(self.settings), self.report)

    def save(self, folder: str | Path) -> Path:
        """Save the ranking to a folder, from which `pcace.load` reads it.

        The folder contains ``ranking.csv`` for other programs, and everything that the figures need.

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
        from pcace._folder import Saved, save

        parts = (self.images, self.activations, self.projections, self.scores, self._ablations, self.effects)
        return save(Path(folder), Saved(self.settings, self.target, parts, self._ranking, self._pictures))

    @property
    def _question(self) -> str:
        return f"{self.model}, {self.layer}, {self.target}"

    @property
    def _score_label(self) -> str:
        from pipeline.networks.targets import score_label

        return self.target if self.settings.target_class is None else score_label(self.settings.target)

    @property
    def _notes(self) -> list[str]:
        return [*self.sentences, *([f"{self.effects.note}"] if self.effects.note else [])]

    @cached_property
    def _ranked(self) -> RankedLayer:
        """The ranking in the form that the figures of the pipeline are drawn from."""
        from pipeline.figures.ranked_layer import RankedLayer

        return RankedLayer(
            visualize=self.settings.visualize,
            views=self._pictures,
            layer=self.layer,
            question=self._question,
            score_label=self._score_label,
            target_class=self.settings.target_class,
            outputs=self.settings.model.class_names,
            images=self.images,
            activations=self.activations,
            projections=self.projections,
            scores=self.scores,
            ranking=self._ranking,
            effects=self.effects,
        )

    def _existing(self, name: str, indices: Sequence[int], n_all: int) -> list[int]:
        """Return the indices as numbers of Python, or raise `InputError` if one does not exist."""
        found = [int(index) for index in indices]
        missing = [index for index in found if not 0 <= index < n_all]
        if missing:
            raise InputError(f"{name} must be in [0, {n_all - 1}]; got {missing[0]} (layer '{self.layer}').")
        return found

    def __repr__(self) -> str:
        best = ", ".join(map(str, self.channels[:5]))
        return (
            f"<Ranking of the {len(self.channels)} channels of {self.layer} ({self.model}) for {self.target}, "
            f"{self.n_images} images; best: {best}>"
        )

    def __str__(self) -> str:
        from pcace._display import as_text

        return as_text(self._ranking.table, self._heading, self.sentences)

    @property
    def _heading(self) -> str:
        return f"Channels of {self.layer} ({self.model}) ranked for {self.target} by {self.n_images} images"

    def _repr_html_(self) -> str:
        from pcace._display import as_html

        return as_html(self._ranking.table, self._heading, self.sentences, self._question, is_low=self.trust.is_low)


def load(folder: str | Path) -> Ranking:
    """Read a ranking that `Ranking.save` has written.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Returns
    -------
    Ranking
        The ranking. Its activation maps are read from the folder when they are needed.

    Raises
    ------
    StorageError
        If the folder does not contain a ranking that this version can read.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> import pcace
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.Flatten(), torch.nn.Linear(216, 1))
    >>> ranking = pcace.rank(model, torch.rand(40, 1, 8, 8), layer="0", ranker="pearson")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loaded = pcace.load(ranking.save(folder))
    >>> loaded.to_frame().equals(ranking.to_frame())
    True
    """
    from pcace._folder import read

    saved = read(Path(folder))
    artifacts: dict[str, Artifact] = {each.name: each for each in (*saved.parts, saved.ranking)}
    images = artifacts[ImageSet.name]
    assert isinstance(images, ImageSet)
    return Ranking.of(saved.settings, saved.target, images, artifacts, saved.pictures)
