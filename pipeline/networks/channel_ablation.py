"""The class scores of all images when sets of channels are ablated, computed in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.arrays import BoolArray, FloatArray, Int64Array
from pipeline.artifacts import Activations
from pipeline.networks.ablation import Ablation, OnFinished
from pipeline.networks.arrangement import Heads, of_units
from pipeline.networks.capture import capture
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward
from pipeline.networks.inputs import ChosenInputs, Inputs, batch_slices, batches, bounded_batch_size
from pipeline.networks.maps import as_maps
from pipeline.progress import Progress


@dataclass(frozen=True)
class AblationTask:
    """Sets of channels, and how they are ablated.

    Attributes
    ----------
    sets : ndarray of shape (n_sets, n_channels) or None
        bool; True for the channels that are ablated. None: each of `channels` alone, in order.
    mode : {"zero", "mean", "resample"}
        Value that a channel is set to: zero, its mean over images and pixels, or its map for another image. The output
        of an attention head is a vector, which is set to zero, to its mean, or to its values for another image.
    channels : ndarray of shape (n_sets,) or None
        Indices of the channels that are ablated one by one; None: all channels.
    """

    sets: BoolArray | None
    mode: str
    channels: Int64Array | None = None

    def singles(self, n_channels: int) -> Sequence[int]:
        """Return the channels that are ablated one by one."""
        return range(n_channels) if self.channels is None else self.channels.tolist()


# From the other image of each image in a batch to the values that replace channels, by mode.
Fills = Callable[[Int64Array], dict[str, torch.Tensor]]


def ablated_scores(
    examined: ExaminedNetwork,
    inputs: Inputs,
    activations: Activations,
    tasks: Mapping[str, AblationTask],
    *,
    batch_size: int,
    seed: int,
    progress: Progress,
    chosen: Int64Array | None = None,
    ablation: Ablation | None = None,
) -> dict[str, FloatArray]:
    """Return the class score of each image for each set of channels of each task.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer and the score.
    inputs : Inputs
        The images.
    activations : Activations
        The layer's maps for the same images.
    tasks : mapping of str to AblationTask
        The sets of channels, by name of the task.
    batch_size : int
        Largest number of images in a batch; it is lower for a layer with many values.
    seed : int
        Seed of the choice of the other image whose map is used with ``resample``.
    progress : callable
        Called with the number of scores that are computed and the number of all scores.
    chosen : ndarray of shape (n_images,), optional
        Indices of the images that are used; all images by default.
    ablation : Ablation, optional
        The network, if it has been prepared.

    Returns
    -------
    dict of str to ndarray of shape (n_sets, n_images)
        Class scores by name of the task, float64.
    """
    channels = ChannelAblation(
        examined, inputs, activations, batch_size=batch_size, seed=seed, chosen=chosen, ablation=ablation
    )
    n_images = len(channels.inputs)
    found: dict[str, FloatArray] = {name: np.empty((channels.n_sets(task), n_images)) for name, task in tasks.items()}
    n_done, n_total = 0, n_images * sum(map(len, found.values()))
    for batch, images in batches(channels.inputs, bounded_batch_size(batch_size, activations.maps[:, 0].size)):

        def on_finished(n_sets: int, n_inputs: int = len(images)) -> None:
            nonlocal n_done
            n_done += n_sets * n_inputs
            progress(n_done, n_total)

        for name, (sets, scores) in channels.scores(batch, images, tasks, on_finished).items():
            found[name][sets, batch] = scores
    return found


def ablation_batches(activations: Activations, batch_size: int, n_images: int) -> list[slice]:
    """Return the batches in which channels are ablated on some images; they are smaller for a layer with many values.

    Parameters
    ----------
    activations, batch_size
        As in `ablated_scores`.
    n_images : int
        Number of images that are used.
    """
    return batch_slices(n_images, bounded_batch_size(batch_size, activations.maps[:, 0].size))


class ChannelAblation:
    """The class scores of batches of images when sets of channels are ablated.

    Parameters
    ----------
    examined, inputs, activations, batch_size, seed, chosen, ablation
        As in `ablated_scores`.

    Attributes
    ----------
    inputs : Inputs
        The images that are used.
    """

    def __init__(
        self,
        examined: ExaminedNetwork,
        inputs: Inputs,
        activations: Activations,
        *,
        batch_size: int,
        seed: int,
        chosen: Int64Array | None = None,
        ablation: Ablation | None = None,
    ) -> None:
        self._examined = examined
        self._ablation = ablation or Ablation(examined, inputs.read(slice(3)))
        self._n_channels, n_all = activations.maps.shape[:2]
        self._images_of = np.arange(n_all) if chosen is None else chosen
        self.inputs = inputs if chosen is None else ChosenInputs(inputs, chosen)
        order = np.random.default_rng(seed).permutation(len(self._images_of))
        self._partner = np.empty_like(order)
        self._partner[order] = np.roll(order, 1)  # the partner of an image is always another image
        is_heads = isinstance(examined.channels, Heads)
        self._fills_of = _fills_of_heads(examined, inputs, batch_size) if is_heads else _fills_of_channels(activations)

    def n_sets(self, task: AblationTask) -> int:
        """Return the number of sets of a task."""
        return len(task.singles(self._n_channels) if task.sets is None else task.sets)

    def scores(
        self,
        batch: slice,
        images: torch.Tensor,
        tasks: Mapping[str, AblationTask],
        on_finished: OnFinished = lambda n_sets: None,
        *,
        share: int = 0,
        n_shares: int = 1,
    ) -> dict[str, tuple[slice, FloatArray]]:
        """Return the scores of a batch of images for the sets of each task, or for a share of the sets.

        Parameters
        ----------
        batch : slice
            One of `ablation_batches`.
        images : tensor of shape (n_images_in_batch, ...)
            The inputs of this batch.
        tasks : mapping of str to AblationTask
            The sets of channels, by name of the task.
        on_finished : callable
            Called repeatedly with the number of sets that were finished since the last call.
        share, n_shares : int
            Which of so many shares is computed. A share consists of the passes of whole groups of sets, so that the
            scores have the same bytes as without shares.

        Returns
        -------
        dict of str to (slice, ndarray of shape (n_sets_in_share, n_images_in_batch))
            By name of the task, the sets and their class scores, float64.
        """
        fills = self._fills_of(self._images_of[self._partner[batch]])
        at_batch = self._ablation.at(images)
        found = {}
        for name, task in tasks.items():
            fill = fills[task.mode].to(self._examined.device)
            sets = at_batch.share_of(self.n_sets(task), share, n_shares)
            if sets.start == sets.stop:
                scores = torch.empty((0, len(images)), dtype=torch.float64)
            elif task.sets is None:
                scores = at_batch.scores_of_each(task.singles(self._n_channels)[sets], fill, on_finished)
            else:
                chosen = torch.from_numpy(task.sets[sets]).to(self._examined.device)
                scores = at_batch.scores(chosen, fill, on_finished)
            found[name] = sets, scores.numpy()
        return found


def _fills_of_channels(activations: Activations) -> Fills:
    n_channels = len(activations.maps)
    means = torch.from_numpy(activations.means().mean(axis=1).astype(np.float32))

    def fills(partners: Int64Array) -> dict[str, torch.Tensor]:
        return {
            "zero": torch.zeros((1, n_channels, 1, 1)),
            "mean": means[None, :, None, None],
            "resample": torch.from_numpy(activations.maps[:, partners].astype(np.float32, copy=False)).transpose(0, 1),
        }

    return fills


@torch.no_grad()
def _fills_of_heads(examined: ExaminedNetwork, inputs: Inputs, batch_size: int) -> Fills:
    """Return the values of all units of attention heads, of which the activations contain only the norms."""

    def units_of(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), capture(examined.network, examined.layer.name) as captured:
            forward(examined.network, images)
            return as_maps(captured.take(), of_units(examined.channels)).cpu()

    sums = [units_of(images).double().mean(dim=(2, 3)).sum(dim=0) for _, images in batches(inputs, batch_size)]
    means = (torch.stack(sums).sum(dim=0) / len(inputs)).float()[None, :, None, None]

    def fills(partners: Int64Array) -> dict[str, torch.Tensor]:
        others = torch.cat([inputs.read(slice(int(image), int(image) + 1)) for image in partners])
        return {"zero": torch.zeros_like(means), "mean": means, "resample": units_of(others)}

    return fills
