"""Networks as graphs of `torch.fx`, and networks that are cut in two at a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate


@dataclass(frozen=True)
class Cut:
    """A network in two parts. Call the method `forward` of both: calling the parts prints a traceback if they fail.

    Attributes
    ----------
    before : GraphModule
        From the images to the layer's output and a tuple of all other values that the second part needs.
    behind : GraphModule
        From these, as separate arguments, to the network's outputs.
    """

    before: fx.GraphModule
    behind: fx.GraphModule


Edge = tuple[fx.Node, fx.Node]
"""A value of a graph, and an operation that uses it."""


@dataclass(frozen=True)
class Traced:
    """A network as a graph, with several of its layers.

    Attributes
    ----------
    graph : GraphModule
        From the images to the network's outputs.
    layers : mapping of str to Node
        By the name of each layer the node of its output.
    """

    graph: fx.GraphModule
    layers: Mapping[str, fx.Node]

    def bypassing(self, layer: str) -> list[Edge] | None:
        """Return the values that bypass a layer, with the operations behind the layer that use them.

        Returns
        -------
        list of tuple of Node
            The edges, in the order of the graph. None if the outputs do not depend on the layer.
        """
        call = self.layers[layer]
        later = {call}
        for node in self.graph.graph.nodes:  # in the order in which they run
            if later.intersection(node.all_input_nodes):
                later.add(node)
        if not any(node.op == "output" for node in later):
            return None
        return [
            (used, node)
            for node in self.graph.graph.nodes
            if node in later and node is not call
            for used in node.all_input_nodes
            if used not in later and used.op != "get_attr"
        ]


class WholeTracer(fx.Tracer):
    """Trace a network down to the modules of torch, and record what each module returns.

    Attributes
    ----------
    returned : dict of str to list of Node or None
        By the name of each module that ran, for each of its runs, the node of its output; None if the output is not
        the result of an operation inside of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.returned: dict[str, list[fx.Node | None]] = {}

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace the call of a module."""
        known = set(self.graph.nodes)
        found = super().call_module(m, forward, args, kwargs)
        node = found.node if isinstance(found, fx.Proxy) and found.node not in known else None
        self.returned.setdefault(self.path_of_module(m), []).append(node)
        return found


def traced(network: nn.Module, layers: Sequence[str]) -> list[Traced]:
    """Return the network as graphs that contain as many of the layers as possible, each in one of them.

    All layers whose output is one node of the graph of the whole network share this graph. Another layer has a graph of
    its own, in which it is one operation, if the network can be traced with it. Which graph contains a layer does not
    depend on the other layers.

    Parameters
    ----------
    network : Module
        The network.
    layers : sequence of str
        Names of the layers.

    Returns
    -------
    list of Traced
        The graphs. Layers that are in none of them cannot be traced, or do not run exactly once.
    """
    found: list[Traced] = []
    if network._forward_hooks or network._forward_pre_hooks:  # see `trace`
        return found
    tracer = WholeTracer()
    try:
        graph = tracer.trace(network)
    except Exception:  # see `trace`
        returned: dict[str, list[fx.Node | None]] = {}
    else:
        returned = tracer.returned
        shared = {layer: node for layer in layers if len(nodes := returned.get(layer, [])) == 1 and (node := nodes[0])}
        if shared:
            found.append(Traced(fx.GraphModule(network, graph), shared))
    for layer in layers:
        if returned.get(layer, [None]) == [None] and (own := trace(network, layer)) is not None:
            calls = [node for node in own.nodes if node.op == "call_module" and node.target == layer]
            if len(calls) == 1:
                found.append(Traced(fx.GraphModule(network, own), {layer: calls[0]}))
    return found


class LayerTracer(fx.Tracer):
    """Trace a network down to the modules of torch, and not into the modules of one layer."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is one node of the graph."""
        return module_qualified_name == self._layer or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module, layer: str) -> fx.Graph | None:
    """Return the network's graph, in which each call of `layer` is one node; None if the network cannot be traced.

    A network with hooks of its own cannot be traced, because they would not be part of the graph and could change the
    network's input or its output.
    """
    if network._forward_hooks or network._forward_pre_hooks:
        return None
    try:
        return LayerTracer(layer).trace(network)
    except Exception:  # tracing runs the network's code on proxies, which may raise any error
        return None


def cut_at(network: nn.Module, layer: str) -> Cut | None:
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


def tensors_of(
    values: tuple[Any, ...], n_rows: int
) -> tuple[list[torch.Tensor], Callable[[Sequence[torch.Tensor]], tuple[Any, ...]]]:
    """Return the tensors of numbers with one row for each image, and the function that puts others in their places.

    Parameters
    ----------
    values : tuple
        Values between the two parts of a cut network: tensors, other objects, and tuples of both.
    n_rows : int
        Number of images.
    """
    found: list[torch.Tensor] = []

    def is_found(value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.is_floating_point() and value.shape[:1] == (n_rows,)

    def collect(value: Any) -> None:
        if is_found(value):
            found.append(value)

    map_aggregate(values, collect)

    def rebuild(replaced: Sequence[torch.Tensor]) -> tuple[Any, ...]:
        others = iter(replaced)
        rebuilt = map_aggregate(values, lambda value: next(others) if is_found(value) else value)
        assert isinstance(rebuilt, tuple)
        return rebuilt

    return found, rebuild
