"""Networks as graphs of `torch.fx`: for cutting a network at a layer, and for the activations of DeepLIFT."""

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


def with_separate_activations(network: nn.Module, layer: str) -> nn.Module | None:
    """Return the network with a separate module, not in place, for each use of an activation function.

    Captum's DeepLIFT attaches hooks to modules of activation functions. It ignores ``functional.relu``, and treats a
    module that runs twice, as in torchvision's ResNets, as one. If the output of one such module is the input of
    another (ReLU and max pooling), Captum reads the gradient of the first before the second has changed it; a copy
    between the two prevents this. See docs/decisions/0076.

    Parameters
    ----------
    network : Module
        The network. It is not changed, and the returned network shares its parameters.
    layer : str
        Dotted path of the layer that is examined. It stays one module.

    Returns
    -------
    Module or None
        None if the network cannot be traced.
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
            separate_call = graph.call_module(name, node.args[:1])
            node.replace_all_uses_with(graph.call_method("clone", (separate_call,)))
        graph.erase_node(node)
    separate.recompile()
    return separate
