"""The class scores of a network when channels of one layer are ablated.

If `torch.fx` can trace the network, it is cut in two at the layer. The first part runs once for each batch of images;
the second part runs once for every set of ablated channels, many sets in one pass. If the network cannot be traced, a
hook replaces the channels in passes through the whole network, which gives the same scores and takes longer. See
docs/decisions/0073.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import fx, nn

from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward, network_input, network_scores
from pipeline.networks.hooks import attached
from pipeline.networks.maps import as_before, as_float, as_maps, from_maps, only_tensor, with_tensor
from pipeline.networks.targets import Score
from pipeline.networks.tracing import trace

OnFinished = Callable[[int], None]

# Number of values of the layer's output in one pass, 4 MiB: larger passes exceed a CPU's cache, and smaller ones lose
# time in calls.
VALUES_AT_ONCE = 2**20
# Tolerance for the scores of a cut network. Batches of another size change the last digits of float32; a wrong cut
# changes far more.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Cut:
    """A network in two parts.

    Attributes
    ----------
    before : GraphModule
        From the images to the layer's output and a tuple of all other values that the second part needs.
    behind : GraphModule
        From these, as separate arguments, to the network's outputs.
    """

    before: fx.GraphModule
    behind: fx.GraphModule


class Ablation:
    """Scores of a network in which channels of one layer are ablated.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network, the layer whose channels are ablated, and the score. The network is not changed.
    sample : tensor of shape (n_images, ...)
        A few inputs. A cut network is only used if it gives them the same scores as the whole network.

    Attributes
    ----------
    cut : Cut or None
        The network in two parts, of which only the second runs for each set of channels. None if the whole network runs
        for each set.
    """

    def __init__(self, examined: ExaminedNetwork, sample: torch.Tensor) -> None:
        self._network, self._layer, self._module = examined.network, examined.layer.name, examined.module
        self._channels, self._score = examined.channels, examined.score
        cut = _cut(self._network, self._layer)
        self.cut = cut if cut is not None and self._is_correct(cut, sample[:3]) else None

    def at(self, inputs: torch.Tensor) -> AblatedBatch:
        """Return the object that computes scores for a batch of inputs, (n_images, ...).

        If the network is cut, its first part runs here, once.
        """
        return self._whole(inputs) if self.cut is None else self._in_parts(self.cut, inputs)

    def _whole(self, inputs: torch.Tensor) -> AblatedBatch:
        """Return the scores of a batch by passes through the whole network."""
        return AblatedBatch(self._score, partial(self._run_whole, inputs), len(inputs), inputs.numel())

    @torch.inference_mode()
    def _in_parts(self, cut: Cut, inputs: torch.Tensor) -> AblatedBatch:
        """Return the scores of a batch by passes through the second part of a cut network."""
        output, around = cut.before(network_input(self._network, inputs))
        return AblatedBatch(
            self._score, partial(self._run_behind, cut, output, around), len(inputs), _tensor(output).numel()
        )

    def _run_behind(
        self, cut: Cut, output: object, around: tuple[Any, ...], sets: torch.Tensor, fills: torch.Tensor
    ) -> torch.Tensor:
        maps = as_maps(as_float(_tensor(output)), self._channels)
        edited = self._edited(output, maps[None], sets, fills)
        outputs = cut.behind(edited, *(_repeated(value, len(maps), len(sets)) for value in around))
        return network_scores(outputs, len(sets) * len(maps))

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
            The channels that are ablated.
        fills : tensor of shape (n_images or 1, n_channels, height or 1, width or 1)
            The values that replace the ablated channels.
        """
        is_ablated, fills = sets[:, None, :, None, None].to(maps.dtype), fills.to(maps.dtype)
        edited = maps * (1 - is_ablated)  # together with the next lines, a sixth of the time of torch.where
        if fills.shape[2:] != (1, 1):
            edited = edited.addcmul_(fills[None], is_ablated)
        elif fills.any():
            edited = edited.add_(fills[None] * is_ablated)
        tensor = _tensor(output)
        return with_tensor(output, as_before(from_maps(edited.flatten(0, 1), self._channels, tensor.ndim), tensor))

    @torch.inference_mode()
    def _is_correct(self, cut: Cut, sample: torch.Tensor) -> bool:
        """Return whether both ways give the same scores, with no channel ablated and with all channels ablated."""
        try:
            output, _ = cut.before(network_input(self._network, sample))
            n_channels = as_maps(_tensor(output), self._channels).shape[1]
            ablated = torch.tensor([[False], [True]], device=sample.device).expand(2, n_channels)
            fills = torch.zeros((1, n_channels, 1, 1), device=sample.device)
            in_parts = self._in_parts(cut, sample).scores(ablated, fills)
            whole = self._whole(sample).scores(ablated, fills)
        except (RuntimeError, TypeError, ValueError):  # for example, if the batch size was traced as a constant
            return False
        return torch.allclose(in_parts, whole, rtol=TOLERANCE, atol=TOLERANCE)


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
        for sets in torch.split(ablated, max(1, VALUES_AT_ONCE // self.n_values)):
            scores = self.score(self.run(sets, fills))
            found.append(scores.reshape(len(sets), self.n_images).double().cpu())
            on_finished(len(sets))
        return torch.cat(found)


def _cut(network: nn.Module, layer: str) -> Cut | None:
    """Return the network in two parts, or None if it cannot be traced or the layer does not run exactly once."""
    graph = trace(network, layer)
    if graph is None:
        return None
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(calls) != 1:
        return None
    (call,) = calls
    later = {call}
    for node in graph.nodes:  # in the order in which they run
        if later.intersection(node.all_input_nodes):
            later.add(node)
    (end,) = (node for node in graph.nodes if node.op == "output")
    if end not in later:
        return None
    later.remove(call)
    around = [
        node
        for node in graph.nodes
        if node is not call and node not in later and node.op != "get_attr" and later.intersection(node.users)
    ]
    before, behind = fx.Graph(), fx.Graph()
    first: dict[fx.Node, fx.Node] = {}
    second = {node: behind.placeholder(f"value_{index}") for index, node in enumerate([call, *around])}
    for node in graph.nodes:
        if node.op == "get_attr":
            second[node] = behind.node_copy(node)
        if node is not end:
            graph_of, copies = (behind, second) if node in later else (before, first)
            copies[node] = graph_of.node_copy(node, copies.__getitem__)
    before.output((first[call], tuple(first[node] for node in around)))
    behind.output(fx.map_arg(end.args[0], second.__getitem__))
    return Cut(fx.GraphModule(network, before), fx.GraphModule(network, behind))


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
