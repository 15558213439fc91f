"""Networks as graphs (torch.fx): what a removal cuts in two, and what DeepLIFT needs each activation to be alone in."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

_ACTIVATIONS = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus)
_AS_MODULES: dict[Callable[..., Any] | str, type[nn.Module]] = {
    functional.relu: nn.ReLU, torch.relu: nn.ReLU, torch.relu_: nn.ReLU, "relu": nn.ReLU, "relu_": nn.ReLU,
    torch.sigmoid: nn.Sigmoid, functional.sigmoid: nn.Sigmoid, "sigmoid": nn.Sigmoid,
    torch.tanh: nn.Tanh, functional.tanh: nn.Tanh, "tanh": nn.Tanh,
}  # fmt: skip


class LayerTracer(fx.Tracer):
    """Trace a network down to torch's own modules, and no deeper than one layer."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self._layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether a module is one node of the graph."""
        return module_qualified_name == self._layer or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module, layer: str) -> fx.Graph | None:
    """Return the network's graph, in which `layer` is one node; None where it cannot be traced."""
    try:
        return LayerTracer(layer).trace(network)
    except Exception:  # tracing runs the network's own code on stand-ins for tensors: it may raise anything
        return None


def with_separate_activations(network: nn.Module, layer: str) -> nn.Module | None:
    """Return the network with a module for every use of an activation, none in place; None where it cannot be traced.

    Captum's DeepLIFT hooks activations as modules: it does not see ``functional.relu``, and takes a module that runs
    twice, as in torchvision's ResNets, for one. Where one hooked module feeds another, as ReLU does max pooling, it
    takes the gradient of the first before the second has changed it; a copy between the two puts that right. The
    parameters are shared with `network`, which is not changed.
    """
    graph = trace(network, layer)
    if graph is None:
        return None
    separate = fx.GraphModule(network, graph)
    modules = dict(network.named_modules())
    for index, node in enumerate(list(graph.nodes)):
        if node.op == "call_module" and isinstance(modules[node.target], _ACTIVATIONS) and node.target != layer:
            activation = copy.deepcopy(modules[node.target])
        elif node.op in ("call_function", "call_method") and node.target in _AS_MODULES:
            activation = _AS_MODULES[node.target]()
        else:
            continue
        if hasattr(activation, "inplace"):
            activation.inplace = False
        name = f"separate_activation_{index}"
        separate.add_submodule(name, activation)
        with graph.inserting_before(node):
            alone = graph.call_module(name, node.args[:1])
            node.replace_all_uses_with(graph.call_method("clone", (alone,)))
        graph.erase_node(node)
    separate.recompile()
    return separate
