"""The result of a ranking: tables, figures, a report, and a folder that it can be saved to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from pcace._figures import RankingFigures
from pcace._wording import in_python, worded_for_python
from pipeline.artifacts import Ablations, Activations, Artifact, ChannelScores, Effects, ImageSet, Projections, Trust
from pipeline.artifacts import Ranking as RankingTable
from pipeline.files import write_whole
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pcace._folder import Saved
    from pcace._pictures import SavedPictures
    from pcace._views import LazyViews, Views
    from pipeline.figures.ranked_layer import RankedLayer


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(RankingFigures):
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
    versions : mapping of str to str
        Versions of the software, and the machine, with which the channels were ranked.

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
    versions: Mapping[str, str]
    _ablations: Ablations
    _ranking: RankingTable
    _pictures: SavedPictures
    _lazy_views: LazyViews

    @classmethod
    def of(
        cls,
        settings: Settings,
        target: str,
        images: ImageSet,
        artifacts: Mapping[str, Artifact],
        pictures: SavedPictures,
        views: LazyViews,
        versions: Mapping[str, str],
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
            versions=versions,
            _pictures=pictures,
            _lazy_views=views,
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
        found = [
            *self._ranking.sentences,
            *([faithful] if faithful else []),
            *([f"{copies[:1].upper()}{copies[1:]}."] if copies else []),
        ]
        return [in_python(sentence) for sentence in found]

    def to_frame(self) -> pd.DataFrame:
        """Return the table of the ranking, with the columns of ``ranking.csv``: one row per channel, best first.

        Returns
        -------
        DataFrame
            A copy, which may be changed.
        """
        return self._ranking.table.copy()

    @worded_for_python()
    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML page with all results, which needs no network connection.

        Class activation maps and the inputs that activate channels most are computed here, if they have not been
        before, because they need the network. The page says what is missing and why, for example if the network has
        changed since the ranking.

        Parameters
        ----------
        path : str or Path
            File of the page.

        Returns
        -------
        Path
            The file.
        """
        path = Path(path)
        write_whole(path, self._page())
        return path

    def _page(self, network: str = "") -> str:
        """Return the report; `network` is the address of the page of the network that the layer is one of."""
        from pcace._report import report_page

        notes = [*self.sentences, *([in_python(self.effects.note)] if self.effects.note else [])]
        return report_page(self._ranked, self._views, self.settings, self.target, notes, self.versions, network)

    @worded_for_python()
    def log(self, run: object) -> None:
        """Log the table, the report, the settings as parameters and a few metrics to an MLflow run, which is not ended.

        Parameters
        ----------
        run : mlflow.entities.Run, str or True
            The run, its id, or True for the active run. The files are in the folder of the run with the layer's name,
            and names of metrics and parameters begin with it. A second ranking of the layer gets a number.
        """
        from pcace._settings import as_given
        from pipeline.tracking.ranking import log_ranking, run_id_of

        parameters = {
            "model": self.model, "target": self.target, "n_images": self.n_images, **as_given(self.settings),
        }  # fmt: skip
        log_ranking(run_id_of(run), self.layer, self._ranking, asdict(self.settings), parameters, self.report)

    @worded_for_python()
    def save(self, folder: str | Path) -> Path:
        """Save the ranking to a folder, from which `pcace.load` reads it.

        The folder contains ``ranking.csv`` for other programs, and everything that the figures and the report need.
        What they show of the network itself is computed before, see `report`.

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
        from pcace._folder import save

        return save(Path(folder), self._saved)

    @property
    def _saved(self) -> Saved:
        """What `save` writes."""
        from pcace._folder import Saved

        parts = (self.images, self.activations, self.projections, self.scores, self._ablations, self.effects)
        return Saved(self.settings, self.target, parts, self._ranking, self._pictures, self._views, self.versions)

    @property
    def _question(self) -> str:
        return f"{self.model}, {self.layer}, {self.target}"

    @property
    def _score_label(self) -> str:
        from pipeline.networks.targets import score_label

        return self.target if self.settings.target_class is None else score_label(self.settings.target)

    @property
    def _views(self) -> Views:
        """Class activation maps and activation maximisation, which are computed when they are needed."""
        return self._lazy_views.get(self._ranked)

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
