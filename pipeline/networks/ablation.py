"""The class scores of a network when channels of one layer are ablated.

If `torch.fx` can trace the network, it is cut in two at the layer. The first part runs once for each batch of images;
the second part runs once for every set of ablated channels, many sets in one pass. If the network cannot be traced, a
hook replaces the channels in passes through the whole network, which gives the same scores and takes longer. See
docs/decisions/0073.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import NetworkError
from pipeline.networks.arrangement import PatchTokens, of_units, with_all_tokens
from pipeline.networks.capture import capture
from pipeline.networks.consistency import check_same_by_batch
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward, network_input, network_scores
from pipeline.networks.hooks import attached
from pipeline.networks.maps import as_before, as_float, as_maps, from_maps, only_tensor, with_tensor
from pipeline.networks.operations import Operations, counted_operations
from pipeline.networks.targets import Score
from pipeline.networks.tracing import Cut, cut_at

OnFinished = Callable[[int], None]

# Number of values of the layer's output in one pass, 4 MiB: larger passes exceed a CPU's cache, and smaller ones lose
# time in calls.
VALUES_AT_ONCE = 2**20
# Tolerance for the scores of a cut network. Batches of another size change the last digits of float32; a wrong cut
# changes far more.
TOLERANCE = 1e-4


class Ablation:
    """Scores of a network in which channels of one layer are ablated.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer whose channels are ablated, and the score. The network is not changed.
    sample : tensor of shape (n_images, ...)
        A few inputs. A cut network is only used if it gives them the same scores as the whole network does for each of
        them alone.

    Attributes
    ----------
    examined : ExaminedNetwork
        The network, the layer and the score.
    cut : Cut or None
        The network in two parts, of which only the second runs for each set of channels. None if the whole network runs
        for each set.
    n_units : int
        Number of channels of the layer's output; of attention heads, that of their units.

    Raises
    ------
    NetworkError
        If the scores of an image depend on the other images in the batch.
    """

    def __init__(self, examined: ExaminedNetwork, sample: torch.Tensor) -> None:
        self.examined = examined
        self._network, self._layer, self._module = examined.network, examined.layer.name, examined.module
        self._channels, self._score = with_all_tokens(examined.channels), examined.score
        units = of_units(examined.channels)
        self._tokens = units if isinstance(units, PatchTokens) else None
        self._counts: frozenset[int] = frozenset()  # places of the number of images among the values around the layer
        self.n_units, self._n_values = self._size(sample[:3])
        self.cut = self._checked(cut_at(self._network, self._layer), sample[:3])

    def at(self, inputs: torch.Tensor) -> AblatedBatch:
        """Return the object that computes scores for a batch of inputs, (n_images, ...).

        If the network is cut, its first part runs here, once.
        """
        return self._whole(inputs) if self.cut is None else self._in_parts(self.cut, inputs)

    @torch.no_grad()
    def operations(self, sample: torch.Tensor) -> Operations:
        """Return the number of operations for each image, counted on a few inputs.

        Attributes of the result: ``before`` is the part that runs once for each image, 0 if the network is not cut, and
        ``behind`` the part that runs for each image and each set of channels.
        """
        sets = torch.zeros((1, self.n_units), dtype=torch.bool, device=sample.device)
        fills = torch.zeros((1, self.n_units, 1, 1), device=sample.device)
        before, at_batch = counted_operations(lambda: self.at(sample))
        behind, _ = counted_operations(lambda: at_batch.scores(sets, fills))
        return Operations(before / len(sample), behind / len(sample))

    @torch.no_grad()
    def _size(self, sample: torch.Tensor) -> tuple[int, int]:
        """Return the number of channels (of units, for attention heads), and the number of values for each image."""
        with capture(self._network, self._layer) as captured:
            forward(self._network, sample)
            maps = as_maps(captured.take(), self._channels)
        return maps.shape[1], maps[0].numel()

    def _whole(self, inputs: torch.Tensor) -> AblatedBatch:
        """Return the scores of a batch by passes through the whole network."""
        n_values = max(inputs.numel(), len(inputs) * self._n_values)
        return AblatedBatch(self._score, partial(self._run_whole, inputs), len(inputs), n_values)

    @torch.no_grad()
    def _in_parts(self, cut: Cut, inputs: torch.Tensor) -> AblatedBatch:
        """Return the scores of a batch by passes through the second part of a cut network."""
        output, around = cut.before.forward(network_input(self._network, inputs))
        return AblatedBatch(
            self._score, partial(self._run_behind, cut, output, around), len(inputs), _tensor(output).numel()
        )

    def _run_behind(
        self, cut: Cut, output: object, around: tuple[Any, ...], sets: torch.Tensor, fills: torch.Tensor
    ) -> torch.Tensor:
        maps = as_maps(as_float(_tensor(output)), self._channels)
        edited = self._edited(output, maps[None], sets, fills)
        repeated = (
            value * len(sets) if place in self._counts else _repeated(value, len(maps), len(sets))
            for place, value in enumerate(around)
        )  # fmt: skip
        return network_scores(cut.behind.forward(edited, *repeated), len(sets) * len(maps))

    def _run_whole(self, inputs: torch.Tensor, sets: torch.Tensor, fills: torch.Tensor) -> torch.Tensor:
        def edit(_module: nn.Module, _inputs: object, output: object) -> object:
            maps = as_maps(as_float(_tensor(output)), self._channels)
            maps = maps.reshape(len(sets), len(inputs), *maps.shape[1:])
            return self._edited(output, maps, sets, fills)

        with attached([self._module.register_forward_hook(edit)]):
            return forward(self._network, _repeated(inputs, len(inputs), len(sets)))

    def _edited(self, output: object, maps: torch.Tensor, sets: torch.Tensor, fills: torch.Tensor) -> object:
        """Return the layer's output with the channels of each set replaced.

        It is a new tensor: in-place operations behind the layer do not change the original.

        Parameters
        ----------
        output : tensor, or tuple that contains it
            What the layer returned.
        maps : tensor of shape (n_sets or 1, n_images, n_channels, height, width)
            The layer's maps, float32 or float64.
        sets : bool tensor of shape (n_sets, n_channels)
            The channels that are ablated. If they are attention heads, all units of a head are replaced.
        fills : tensor of shape (n_images or 1, n_channels, height or 1, width or 1)
            The values that replace the ablated channels; of attention heads, those of their units. One value replaces
            all tokens of a transformer; a map replaces the patches, and the other tokens keep their values.
        """
        sets = sets.repeat_interleave(maps.shape[2] // sets.shape[1], dim=1)  # the units of a head are neighbours
        is_ablated, fills = sets[:, None, :, None, None].to(maps.dtype), fills.to(maps.dtype)
        if self._tokens is not None and fills.shape[2:] != (1, 1):
            fills, is_patch = _as_tokens(fills, self._tokens)
            is_ablated = is_ablated * is_patch
        edited = maps * (1 - is_ablated)  # together with the next lines, a sixth of the time of torch.where
        if fills.shape[2:] != (1, 1):
            edited = edited.addcmul_(fills[None], is_ablated)
        elif fills.any():
            edited = edited.add_(fills[None] * is_ablated)
        tensor = _tensor(output)
        return with_tensor(output, as_before(from_maps(edited.flatten(0, 1), self._channels, tensor.ndim), tensor))

    @torch.no_grad()
    def _checked(self, cut: Cut | None, sample: torch.Tensor) -> Cut | None:
        """Return the cut network if its scores are right; None if the whole network must run for each set of channels.

        The scores are compared with those of plain passes of one image, with no channel ablated and with all channels
        ablated. A pass for several sets is a larger batch, so that two such passes may agree and both be wrong.

        Raises
        ------
        NetworkError
            If the scores of the whole network are not right, either: they depend on the batch.
        """
        ablated = torch.tensor([[False], [True]], device=sample.device).expand(2, self.n_units)
        fills = torch.zeros((1, self.n_units, 1, 1), device=sample.device)

        def plain(images: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.cat(
                [torch.cat([self._whole(each).scores(channels, fills) for channels in torch.split(ablated, 1)])
                 for each in images], dim=1,
            )  # fmt: skip

        try:
            right = plain(torch.split(sample, 1))
        except (NetworkError, RuntimeError, TypeError, ValueError):  # a network that does not accept single images
            right = plain([sample])
        found = self._whole(sample).scores(ablated, fills)
        check_same_by_batch(self._network, (right,), (found,))
        if cut is None:
            return None
        try:
            self._counts = self._numbers_of_images(cut, sample)
            in_parts = self._in_parts(cut, sample).scores(ablated, fills)
        except (NetworkError, RuntimeError, TypeError, ValueError):  # e.g. if the batch size was traced as a constant
            return None
        return cut if torch.allclose(in_parts, found, TOLERANCE, TOLERANCE) else None

    def _numbers_of_images(self, cut: Cut, sample: torch.Tensor) -> frozenset[int]:
        """Return the places of the values around the layer that are the number of images, such as ``x.size(0)``.

        They are those that are the number of images in batches of two sizes.
        """

        def places(inputs: torch.Tensor) -> frozenset[int]:
            _, around = cut.before.forward(network_input(self._network, inputs))
            return frozenset(place for place, value in enumerate(around) if type(value) is int and value == len(inputs))

        found = places(sample)
        return found & places(torch.cat([sample, sample])) if found else found


@dataclass(frozen=True)
class AblatedBatch:
    """Scores of one batch of images, for any sets of ablated channels; see `Ablation.at`.

    Attributes
    ----------
    score : callable
        From the network's outputs to the class score of each image.
    run : callable
        From sets of channels and the values that replace them (see `scores`) to the network's outputs, (n_sets *
        n_images, n_outputs).
    n_images : int
        Number of images in the batch.
    n_values : int
        Number of values that are repeated for every set: of the layer's output, or of the inputs.
    """

    score: Score
    run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    n_images: int
    n_values: int

    @torch.no_grad()
    def scores(
        self, ablated: torch.Tensor, fills: torch.Tensor, on_finished: OnFinished = lambda n_sets: None
    ) -> torch.Tensor:
        """Return the scores, (n_sets, n_images), float64 on the CPU.

        Parameters
        ----------
        ablated : bool tensor of shape (n_sets, n_channels)
            The channels that are ablated; each row is a set.
        fills : tensor of shape (n_images or 1, n_channels, height or 1, width or 1)
            The values that replace the ablated channels.
        on_finished : callable
            Called repeatedly with the number of sets that were finished since the last call.
        """
        return self._scores(torch.split(ablated, self.n_at_once), fills, on_finished)

    @torch.no_grad()
    def scores_of_each(
        self, channels: Sequence[int], fills: torch.Tensor, on_finished: OnFinished = lambda n_sets: None
    ) -> torch.Tensor:
        """Return the scores with each of some channels ablated alone, (n_channels, n_images), float64 on the CPU.

        The sets of all channels together would take memory that grows with the square of their number. Therefore, those
        of one pass are made at a time.
        """

        def sets() -> Iterator[torch.Tensor]:
            for chosen in torch.split(torch.as_tensor(channels, device=fills.device), self.n_at_once):
                yield functional.one_hot(chosen, fills.shape[1]).bool()

        return self._scores(sets(), fills, on_finished)

    def share_of(self, n_sets: int, share: int, n_shares: int) -> slice:
        """Return the sets that belong to one of several shares; the sets of one pass are in the same share."""
        n_passes = -(-n_sets // self.n_at_once)
        first, last = (min(n_sets, self.n_at_once * (n_passes * each // n_shares)) for each in (share, share + 1))
        return slice(first, last)

    @property
    def n_at_once(self) -> int:
        """Number of sets in one pass."""
        return max(1, VALUES_AT_ONCE // self.n_values)

    def _scores(self, passes: Iterable[torch.Tensor], fills: torch.Tensor, on_finished: OnFinished) -> torch.Tensor:
        found = []
        for sets in passes:
            scores = self.score(self.run(sets, fills))
            found.append(scores.reshape(len(sets), self.n_images).double().cpu())
            on_finished(len(sets))
        return torch.cat(found)


def _as_tokens(fills: torch.Tensor, tokens: PatchTokens) -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps of patches as maps of all tokens, (..., n_tokens, 1), and which of these tokens are patches."""
    patches = functional.pad(fills.flatten(2), (tokens.n_others, 0))
    is_patch = torch.arange(patches.shape[2], device=fills.device) >= tokens.n_others
    return patches[..., None], is_patch[:, None].to(fills.dtype)


def _tensor(output: object) -> torch.Tensor:
    tensor = only_tensor(output)
    assert tensor is not None  # a layer that can be ranked returns one tensor
    return tensor


def _repeated(value: Any, n_images: int, n_sets: int) -> Any:
    """Return copies of a batch's value, one for each set; in-place operations do not change the original."""
    if not isinstance(value, torch.Tensor):
        return value
    is_batch = value.ndim > 0 and len(value) == n_images
    return value.repeat(n_sets, *[1] * (value.ndim - 1)) if is_batch else value.clone()
