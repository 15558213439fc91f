"""The scores of a network when channels of one layer are ablated.

A network that `torch.fx` can trace is cut at the layer: the part before it runs once for a batch of images, the part
behind it once for every set of ablated channels, many sets at a time. If it cannot be traced, a hook replaces the
channels in passes through the whole network, which gives the same result and takes more time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.hooks import attached
from pipeline.networks.maps import as_maps, from_maps, only_tensor, with_tensor
from pipeline.networks.targets import Score
from pipeline.networks.tracing import trace

OnFinished = Callable[[int], None]

VALUES_AT_ONCE = 2**20  # of the layer's output, 4 MiB: larger batches leave a CPU's cache, smaller ones cost calls
CLOSE = 1e-4  # float32 in batches of another size, far below what a wrong cut would do


@dataclass(frozen=True)
class Cut:
    """A network in two parts: images to the layer's output and what goes around it; from those to the outputs."""

    before: fx.GraphModule
    behind: fx.GraphModule


class Ablation:
    """Scores of a network some of whose channels are ablated.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer whose channels are ablated, and the score. The network is not changed.
    sample : tensor of shape (n_images, ...)
        A few inputs: a cut network is only used if it gives these the scores that the whole network gives.

    Attributes
    ----------
    cut : Cut or None
        The network in two parts, of which only the second runs for each set of channels. None: the whole network runs.
    """

    def __init__(self, examined: ExaminedNetwork, sample: torch.Tensor) -> None:
        self._network, self._layer, self._module = examined.network, examined.layer.name, examined.module
        self._channels, self._score = examined.channels, examined.score
        self.cut = _cut(self._network, self._layer)
        if self.cut is not None and not self._is_right(sample):
            self.cut = None

    @torch.inference_mode()
    def at(self, inputs: torch.Tensor) -> AblationAt:
        """Return what computes scores of some inputs, (n_images, ...); the part before the layer runs here, once."""
        if self.cut is None:
            return AblationAt(self._score, partial(self._whole_passes, inputs), len(inputs), inputs.numel())
        output, around = self.cut.before(inputs)
        n_values = _tensor(output).numel()
        return AblationAt(self._score, partial(self._behind, self.cut, output, around), len(inputs), n_values)

    def _behind(
        self, cut: Cut, output: object, around: tuple[Any, ...], sets: torch.Tensor, fills: torch.Tensor
    ) -> torch.Tensor:
        maps = as_maps(_tensor(output), self._channels)
        edited = self._edited(output, maps[None], sets, fills)
        outputs: torch.Tensor = cut.behind(edited, *(_repeated(value, len(maps), len(sets)) for value in around))
        return outputs

    def _whole_passes(self, inputs: torch.Tensor, sets: torch.Tensor, fills: torch.Tensor) -> torch.Tensor:
        def edit(_module: nn.Module, _inputs: object, output: object) -> object:
            maps = as_maps(_tensor(output), self._channels)
            maps = maps.reshape(len(sets), len(inputs), *maps.shape[1:])
            return self._edited(output, maps, sets, fills)

        with attached([self._module.register_forward_hook(edit)]):
            outputs: torch.Tensor = self._network(_repeated(inputs, len(inputs), len(sets)))
        return outputs

    def _edited(self, output: object, maps: torch.Tensor, sets: torch.Tensor, fills: torch.Tensor) -> object:
        """Return the layer's output with the channels of each set replaced: a new tensor, safe from in-place work."""
        is_ablated = sets[:, None, :, None, None].to(maps.dtype)
        edited = maps * (1 - is_ablated)  # together with the next lines, a sixth of the time of torch.where
        if fills.shape[2:] != (1, 1):
            edited = edited.addcmul_(fills[None], is_ablated)
        elif fills.any():
            edited = edited.add_(fills[None] * is_ablated)
        return with_tensor(output, from_maps(edited.flatten(0, 1), self._channels, _tensor(output).ndim))

    def _is_right(self, sample: torch.Tensor) -> bool:
        """Say whether the cut network does what the whole one does, with no channel ablated and with all of them."""
        cut, sample = self.cut, sample[:3]
        try:
            with torch.inference_mode():
                assert cut is not None
                n_channels = as_maps(_tensor(cut.before(sample)[0]), self._channels).shape[1]
            ablated = torch.tensor([[False], [True]], device=sample.device).expand(2, n_channels)
            fills = torch.zeros((1, n_channels, 1, 1), device=sample.device)
            by_parts = self.at(sample).scores(ablated, fills)
            self.cut = None
            whole = self.at(sample).scores(ablated, fills)
        except (RuntimeError, TypeError, ValueError):  # a batch's size was traced as a number, or the like
            return False
        self.cut = cut
        return torch.allclose(by_parts, whole, rtol=CLOSE, atol=CLOSE)


@dataclass(frozen=True)
class AblationAt:
    """Scores of one batch of images."""

    _score: Score
    _run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    _n_images: int
    _n_values: int  # of the layer, or of the inputs: whichever is repeated for every set

    @torch.inference_mode()
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
        found = []
        for sets in torch.split(ablated, max(1, VALUES_AT_ONCE // self._n_values)):
            scores = self._score(self._run(sets, fills))
            found.append(scores.reshape(len(sets), self._n_images).double().cpu())
            on_finished(len(sets))
        return torch.cat(found)


def _cut(network: nn.Module, layer: str) -> Cut | None:
    """Return the network in two parts; None where it cannot be traced, or where the layer does not run once."""
    graph = trace(network, layer)
    if graph is None:
        return None
    places = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(places) != 1:
        return None
    place = places[0]
    later = {place}
    for node in graph.nodes:  # in the order in which they run
        if later.intersection(node.all_input_nodes):
            later.add(node)
    (end,) = (node for node in graph.nodes if node.op == "output")
    if end not in later:
        return None
    later.remove(place)
    around = [
        node
        for node in graph.nodes
        if node is not place and node not in later and node.op != "get_attr" and later.intersection(node.users)
    ]
    before, behind = fx.Graph(), fx.Graph()
    first: dict[fx.Node, fx.Node] = {}
    second = {node: behind.placeholder(f"value_{index}") for index, node in enumerate([place, *around])}
    for node in graph.nodes:
        if node.op == "get_attr":
            second[node] = behind.node_copy(node)
        if node is not end:
            graph_of, copies = (behind, second) if node in later else (before, first)
            copies[node] = graph_of.node_copy(node, copies.__getitem__)
    before.output((first[place], tuple(first[node] for node in around)))
    behind.output(fx.map_arg(end.args[0], second.__getitem__))
    return Cut(fx.GraphModule(network, before), fx.GraphModule(network, behind))


def _tensor(output: object) -> torch.Tensor:
    tensor = only_tensor(output)
    assert tensor is not None  # layers.find has seen it
    return tensor


def _repeated(value: Any, n_images: int, n_sets: int) -> Any:
    """Return a copy of a batch's value for each set; in-place work behind the layer must not reach the original."""
    if not isinstance(value, torch.Tensor):
        return value
    is_batch = value.ndim > 0 and len(value) == n_images
    return value.repeat(n_sets, *[1] * (value.ndim - 1)) if is_batch else value.clone()
