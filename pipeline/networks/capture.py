"""Record a layer's output during a forward pass, without changing the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.errors import NetworkError
from pipeline.networks.hooks import attached
from pipeline.networks.maps import as_float, only_tensor


class Captured:
    """The output of one layer in the latest forward pass; see `capture`."""

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self._outputs: list[torch.Tensor] = []

    def take(self) -> torch.Tensor:
        """Return the output and remove it, so that the next forward pass can be recorded.

        Returns
        -------
        tensor
            The layer's output, in the layer's own shape, as float32 or float64.

        Raises
        ------
        NetworkError
            If the layer did not run, or ran more than once.
        """
        outputs, self._outputs = self._outputs, []
        if len(outputs) != 1:
            raise runs_error(self.layer, len(outputs))
        return outputs[0]


def runs_error(layer: str, n_runs: int) -> NetworkError:
    """Return the error for a layer that does not run once in a forward pass."""
    return NetworkError(
        f"layer must run once in a forward pass; got {n_runs} runs (layer '{layer}'). "
        "Choose another layer: `pcace layers` lists the layers that can be ranked."
    )


@contextmanager
def capture(network: nn.Module, layer: str, *, keep_graph: bool = False) -> Iterator[Captured]:
    """Record the output of a layer in every forward pass inside the context.

    The output is cloned immediately, because an in-place operation behind the layer would overwrite it: torchvision's
    VGG, for example, has ``ReLU(inplace=True)`` after each convolution.

    Parameters
    ----------
    network : Module
        The network.
    layer : str
        Dotted path of the layer.
    keep_graph : bool
        Whether gradients can be propagated through the recorded output.

    Yields
    ------
    Captured
        Its method `take` returns the recorded output.

    Raises
    ------
    NetworkError
        In the forward pass, if the layer does not return exactly one tensor.
    """
    captured = Captured(layer)

    def record(_module: nn.Module, _inputs: object, output: object) -> None:
        tensor = only_tensor(output)
        if tensor is None:
            raise NetworkError(
                f"layer must return one tensor; got {type(output).__name__} (layer '{layer}'). "
                "Choose another layer: `pcace layers` lists the layers that can be ranked."
            )
        captured._outputs.append(as_float(tensor if keep_graph else tensor.detach()).clone())

    with attached([network.get_submodule(layer).register_forward_hook(record)]):
        yield captured


@contextmanager
def stream(network: nn.Module, layers: Sequence[str], receive: Callable[[str, object], None]) -> Iterator[None]:
    """Call a function with every output of some layers, as soon as a layer returns it.

    The function must copy what it needs, because a later in-place operation may overwrite the output. No output is kept
    in memory until the end of the forward pass, so any number of layers can be read in one pass.

    Parameters
    ----------
    network : Module
        The network.
    layers : sequence of str
        Dotted paths of the layers.
    receive : callable
        Called with the path of the layer and its output.
    """

    def hook(layer: str) -> Callable[[nn.Module, object, object], None]:
        return lambda _module, _inputs, output: receive(layer, output)

    with attached(network.get_submodule(layer).register_forward_hook(hook(layer)) for layer in layers):
        yield
