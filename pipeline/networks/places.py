"""Values at many places inside a network, and the gradients of the class score there, from one backward pass.

A place is the output of a layer, or a value that bypasses a layer on its way to one operation behind it. The tensor of
each place is copied: the copy is the value, and what follows computes with a second copy, which it may change in place.
The gradients are the same, to the byte, however many places are recorded: each additional place adds copies, and does
not change the order in which gradients are added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from pipeline.networks.capture import runs_error
from pipeline.networks.contributed import leaf_of
from pipeline.networks.examined import ExaminedNetwork
from pipeline.networks.forward import forward, network_input, network_scores
from pipeline.networks.gradients import replaced
from pipeline.networks.hooks import without_inplace
from pipeline.networks.maps import only_tensor, with_tensor
from pipeline.networks.tracing import Edge, Traced, tensors_of

Place = str | tuple[fx.Node, fx.Node, int]
"""The name of a layer; or an edge of the graph, and the index of the tensor in the value."""


@dataclass(frozen=True)
class Sample:
    """The value at a place for a batch of images, and the gradient of the scores there, (n_images, ...)."""

    value: torch.Tensor
    gradient: torch.Tensor


Samples = Mapping[Place, Sample]
SamplesAt = Callable[[torch.Tensor], Samples]


def samples_of_layers(layers: Sequence[ExaminedNetwork], point: torch.Tensor) -> Samples:
    """Return the samples at the outputs of layers of one network, which need not be traced.

    Parameters
    ----------
    layers : sequence of ExaminedNetwork
        One network and score with several layers.
    point : tensor of shape (n_images, ...)
        Inputs of the network.
    """
    found = _Found()
    runs = dict.fromkeys((each.layer.name for each in layers), 0)

    def through(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def keep(tensor: torch.Tensor) -> torch.Tensor:
            runs[name] += 1
            return found.keep(name, tensor)

        return keep

    network = layers[0].network
    with ExitStack() as stack:
        stack.enter_context(without_inplace(network))
        for each in layers:
            stack.enter_context(replaced(each.module, through(each.layer.name)))
        stack.enter_context(torch.enable_grad())
        scores = layers[0].score(forward(network, _leaf(point)))
    for name, n_runs in runs.items():
        if n_runs != 1:
            raise runs_error(name, n_runs)
    return found.samples(scores)


def samples_in_graph(
    examined: ExaminedNetwork, traced: Traced, edges: Collection[Edge], point: torch.Tensor
) -> Samples:
    """Return the samples at the outputs of all layers of a graph, and at some of its edges.

    Parameters
    ----------
    examined : ExaminedNetwork
        The network and the score; its layer is not used.
    traced : Traced
        The graph of the network, and its layers.
    edges : collection of tuple of Node
        The edges.
    point : tensor of shape (n_images, ...)
        Inputs of the network.
    """
    found = _Found()
    run = _Recording(traced, edges, found, len(point))
    with without_inplace(examined.network), torch.enable_grad():
        outputs = run.run(_leaf(network_input(examined.network, point)).clone())
        scores = examined.score(network_scores(outputs, len(point)))
    return found.samples(scores)


class _Found:
    """The values that have been kept during a forward pass."""

    def __init__(self) -> None:
        self._values: dict[Place, torch.Tensor] = {}

    def keep(self, place: Place, tensor: torch.Tensor) -> torch.Tensor:
        """Keep a value, and return the copy of it that the network continues with."""
        # A value that is detached from the input has a gradient of its own.
        self._values[place] = tensor.clone() if tensor.requires_grad else leaf_of(tensor)
        return self._values[place].clone()

    def samples(self, scores: torch.Tensor) -> Samples:
        """Compute the gradients; they are 0 for a value of which only the shape is used."""
        values = list(self._values.values())
        gradients = torch.autograd.grad(scores.sum(), values, allow_unused=True)
        return {
            place: Sample(value.detach(), torch.zeros_like(value) if gradient is None else gradient)
            for (place, value), gradient in zip(self._values.items(), gradients, strict=True)
        }


class _Recording(fx.Interpreter):
    """Run a graph, and keep the outputs of layers and the values of edges."""

    def __init__(self, traced: Traced, edges: Collection[Edge], found: _Found, n_rows: int) -> None:
        super().__init__(traced.graph)
        self.extra_traceback = False
        self._layers: dict[fx.Node, list[str]] = {}  # a block may return the output of its last module
        for name, node in traced.layers.items():
            self._layers.setdefault(node, []).append(name)
        self._edges, self._found, self._n_rows = frozenset(edges), found, n_rows
        self._copies: dict[Edge, Any] = {}  # that the current operation uses

    def run_node(self, n: fx.Node) -> Any:
        """Return the result of an operation."""
        result = super().run_node(n)
        self._copies.clear()
        for name in self._layers.get(n, []):
            tensor = only_tensor(result)
            assert tensor is not None  # a layer that can be ranked returns one tensor
            result = with_tensor(result, self._found.keep(name, tensor))
        return result

    def map_nodes_to_values(self, args: Any, n: fx.Node) -> Any:
        """Return the values of the arguments of an operation."""
        return fx.map_arg(args, lambda used: self._value(used, n))

    def _value(self, used: fx.Node, user: fx.Node) -> Any:
        value, edge = self.env[used], (used, user)
        if edge not in self._edges:
            return value
        if edge not in self._copies:  # an operation may use a value several times, as in torch.cat([x, x])
            tensors, rebuild = tensors_of((value,), self._n_rows)
            kept = [self._found.keep((*edge, index), each) for index, each in enumerate(tensors)]
            (self._copies[edge],) = rebuild(kept)
        return self._copies[edge]


def _leaf(images: torch.Tensor) -> torch.Tensor:
    return leaf_of(images) if images.is_floating_point() else images
