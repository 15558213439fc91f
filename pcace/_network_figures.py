"""The figures of a network as methods of `pcace.NetworkRanking`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pcace._wording import worded_for_python
from pipeline.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pcace._plots import AxesArray
    from pipeline.artifacts import NetworkRanking
    from pipeline.figures.network_channels import PicturedChannel

N_BEST = 12  # number of channels with pictures


class NetworkFigures(ABC):
    """The methods that draw figures of a network; they return the axes of Matplotlib."""

    _tables: NetworkRanking

    @abstractmethod
    def _pictured(self, n_channels: int) -> list[PicturedChannel]:
        """Return the best channels of the network with their pictures."""

    def plot(self) -> Axes:
        """Draw every channel at the score that the network is ranked by, one row per layer.

        Returns
        -------
        Axes
            The axes of the new figure.
        """
        from pcace._plots import drawn
        from pipeline.figures.network import draw_channels

        axes: Axes = drawn(lambda make: draw_channels(self._tables, make))[0]
        return axes

    def plot_distributions(self) -> AxesArray:
        """Draw the scores of each layer, the reliability of its order, and the share of channels that stand out.

        Returns
        -------
        ndarray of Axes
            All axes of the new figure.
        """
        from pcace._plots import drawn
        from pipeline.figures.network import draw_layer_distributions

        return drawn(lambda make: draw_layer_distributions(self._tables, make))

    @worded_for_python()
    def plot_association(self) -> Axes:
        """Draw the association of each whole layer with the class score along the depth, with its 95 % interval.

        Returns
        -------
        Axes
            The axes of the new figure.

        Raises
        ------
        InputError
            If the association was not computed for any layer.
        """
        from pcace._plots import drawn
        from pipeline.figures.network import draw_association

        if self._tables.layers.association.isna().all():
            raise InputError(
                "the association of a layer must be known for this figure; got none. Rank the network with more images."
            )
        axes: Axes = drawn(lambda make: draw_association(self._tables, make))[0]
        return axes

    @worded_for_python()
    def plot_best_channels(self, n_channels: int = N_BEST) -> AxesArray:
        """Draw the best channels: their most activating images, activation maps, and the maps over the images.

        Parameters
        ----------
        n_channels : int, default=12
            Number of channels.

        Returns
        -------
        ndarray of Axes
            All axes of the new figure.
        """
        from pcace._plots import drawn
        from pipeline.figures.network_channels import draw_best_channels

        n_varying = int((~self._tables.channels.dead).sum())
        if not 1 <= n_channels <= n_varying:
            raise InputError(f"n_channels must be in [1, {n_varying}], the channels that vary; got {n_channels}.")
        best = self._pictured(n_channels)
        return drawn(lambda make: draw_best_channels(best, self._tables, make))
