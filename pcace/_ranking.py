"""The result of a ranking: tables, figures, a report, and a folder that it can be saved to."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.artifacts import Ablations, Activations, Artifact, ChannelScores, Effects, ImageSet, Projections, Trust
from pipeline.artifacts import Ranking as RankingTable
from pipeline.errors import InputError, StorageError
from pipeline.files import write_whole
from pipeline.settings import Settings, settings_from

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pcace._pictures import KeptPictures
    from pipeline.figures.ranked_layer import RankedLayer

DESCRIPTION = "pcace.json"
FORMAT = 1  # raised if a saved ranking cannot be read by earlier versions
KINDS: tuple[type[Artifact], ...] = (ImageSet, Activations, Projections, ChannelScores, Ablations, Effects)

AxesArray = NDArray[np.object_]


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
        from pipeline.figures.ranking import draw_ranking_curve, plot_ranking_curve

        if ax is None:
            drawn: Axes = _drawn(lambda make: draw_ranking_curve(self._ranking.table, self._question, make))[0]
            return drawn
        handles, labels = plot_ranking_curve(ax, self._ranking.table)
        ax.legend(handles, labels, frameon=False, fontsize=7)
        return ax

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
        from pipeline.figures.activation_maps import draw_activation_maps

        chosen = [channels] if isinstance(channels, int | np.integer) else channels
        shown = replace(
            self.settings.visualize,
            images="driving" if images is None else "spread",
            channels=() if chosen is None else tuple(self._existing("channels", chosen, len(self.channels))),
            image_ids=() if images is None else tuple(map(str, self._existing("images", images, self.n_images))),
        )
        ranked = replace(self._ranked, visualize=shown)
        _, n_top = ranked.channels
        return _drawn(
            lambda make: draw_activation_maps(
                ranked.channel_maps, n_top, self._question, overlay=overlay, own_images=ranked.has_own_images, make=make
            )
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
        from pipeline.figures.ranking import draw_transforms

        fit = self.scores.fit
        if fit is None:
            raise InputError(
                f"the ranker must be ace for a figure of the transforms; got {self.settings.score.kind}. "
                'Rank with ranker="ace".'
            )
        (index,) = self._existing("channel", [self.channels[0] if channel is None else channel], len(self.channels))
        return _drawn(
            lambda make: draw_transforms(
                self.projections.values[index], fit.phi[index], self.activations.class_score, fit.theta[index],
                self._score_label, index, self._question, make,
            )
        )  # fmt: skip

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
        folder = Path(folder)
        if folder.exists() and not (folder / DESCRIPTION).exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(
                f"the folder of a saved ranking must be new, empty or that of an earlier one; got {folder}. "
                "Choose another folder."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            self._write(temporary)
            temporary.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder

    def _write(self, folder: Path) -> None:
        self._ranking.save(folder)
        self._pictures.save(folder)
        parts = (self.images, self.activations, self.projections, self.scores, self._ablations, self.effects)
        for artifact in parts:
            (folder / artifact.name).mkdir()
            artifact.save(folder / artifact.name)
        description = {"format": FORMAT, "target": self.target, "settings": asdict(self.settings)}
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")

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
    from pcace._pictures import KeptPictures

    folder = Path(folder)
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] > FORMAT:
            raise StorageError(
                f"a saved ranking must have a format of at most {FORMAT}; got {description['format']} ({folder}). "
                "Update pcace."
            )
        artifacts: dict[str, Artifact] = {kind.name: kind.load(folder / kind.name) for kind in KINDS}
        artifacts[RankingTable.name] = RankingTable.load(folder)
        images = artifacts[ImageSet.name]
        assert isinstance(images, ImageSet)
        return Ranking.of(
            settings_from(description["settings"]), description["target"], images, artifacts, KeptPictures.load(folder)
        )
    except (OSError, KeyError, ValueError) as error:
        raise StorageError(
            f"folder must contain a ranking that Ranking.save has written; got {folder} "
            f"({type(error).__name__}: {error}). Give the folder itself."
        ) from error


def _drawn(draw: Any) -> AxesArray:
    """Return all axes of a figure that `draw` draws into a new figure of pyplot, in the style of the project."""
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from pipeline.figures.style import paper_style

    def make(width: float, height: float, gap: float = 0.02) -> Figure:
        return pyplot.figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=gap))

    with paper_style():
        figure: Figure = draw(make)
    axes = np.empty(len(figure.axes), dtype=object)
    axes[:] = figure.axes
    return axes
