"""The figures of a ranking as methods of `pcace.Ranking`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pcace._wording import worded_for_python
from pipeline.errors import InputError
from pipeline.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pcace._plots import AxesArray
    from pcace._views import Views
    from pipeline.figures.ranked_layer import RankedLayer


class RankingFigures(ABC):
    """The methods that draw figures; they return the axes of Matplotlib."""

    settings: Settings

    @property
    @abstractmethod
    def _ranked(self) -> RankedLayer:
        """The ranking in the form that the figures of the pipeline are drawn from."""

    @property
    @abstractmethod
    def _views(self) -> Views:
        """Class activation maps and activation maximisation."""

    @worded_for_python()
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

        return plot_curve(self._ranked, ax)

    @worded_for_python()
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
            () if chosen is None else self._channels("channels", chosen),
            None if images is None else self._existing("images", images, len(self._ranked.images)),
            overlay=overlay,
        )

    @worded_for_python()
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

        ranked = self._ranked
        if ranked.scores.fit is None:
            ranker = self.settings.score.kind
            raise InputError(
                f'the ranker must be ace for a figure of the transforms; got {ranker}. Rank with ranker="ace".'
            )
        best = int(ranked.ranking.table.channel.iloc[0])
        (index,) = self._channels("channel", [best if channel is None else channel])
        return plot_transforms(ranked, index)

    @worded_for_python()
    def plot_cam(self) -> AxesArray:
        """Draw class activation maps: the contribution of each position to the score of the class.

        The figure is CAM for networks that end in global average pooling and one linear layer, and Grad-CAM for others.
        It shows the images that ``settings={"visualize.image_ids": ["3", "7"]}`` names when the channels are ranked; by
        default, these are 4 images spread over the set (``visualize.n_images``).

        Returns
        -------
        ndarray of Axes
            All axes of the new figure.

        Raises
        ------
        InputError
            If the target is not a class, or the maps cannot be computed; the message says why.
        """
        from pcace._plots import plot_view

        return plot_view(self._ranked, self._views, "activation", "class activation maps")

    @worded_for_python()
    def plot_maximization(self) -> AxesArray:
        """Draw the input that activates each of the best channels most, found by gradient ascent.

        It is done for as many channels as the setting ``visualize.maximize_tflop`` allows, or for all of them if
        ``settings={"visualize.maximize": "always"}`` was given when the channels were ranked.

        Returns
        -------
        ndarray of Axes
            All axes of the new figure.

        Raises
        ------
        InputError
            If there are no such inputs; the message says why.
        """
        from pcace._plots import plot_view

        return plot_view(self._ranked, self._views, "maximized", "activation maximisation")

    def _channels(self, name: str, channels: Sequence[int]) -> list[int]:
        return self._existing(name, channels, len(self._ranked.ranking.table))

    def _existing(self, name: str, indices: Sequence[int], n_all: int) -> list[int]:
        """Return the indices as numbers of Python, or raise `InputError` if one does not exist."""
        found = [int(index) for index in indices]
        missing = [index for index in found if not 0 <= index < n_all]
        if missing:
            raise InputError(f"{name} must be in [0, {n_all - 1}]; got {missing[0]} (layer '{self.settings.layer}').")
        return found
