"""The layers of a network, found in a forward pass."""

from __future__ import annotations

import weakref
from collections import defaultdict

import torch
from torch import nn

from pipeline.networks.arrangement import Arrangement, ChannelAxis, ChannelAxisSetting, Heads, PatchTokens
from pipeline.networks.forward import check_code, forward, scores_in
from pipeline.networks.heads import AttentionHeads, exposed_heads
from pipeline.networks.hooks import attached
from pipeline.networks.layout import LayerInfo, NetworkLayout
from pipeline.networks.maps import declared_channels, only_tensor
from pipeline.networks.tokens import n_mergings, n_other_tokens, patch_tokens


def layout(network: nn.Module, example: torch.Tensor, channels: ChannelAxisSetting = "auto") -> NetworkLayout:
    """Return the layers of a network, found in one forward pass; the heads of attention layers are layers, too.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    example : tensor of shape (n_images, ...)
        A batch of inputs, on the network's device; their values do not matter. Use two images or more: with one image,
        an output without a batch axis could be mistaken for an output that has one.
    channels : {"auto", "first", "last"}
        Axis of the layers' channels: axis 1, the last axis, or the axis inferred from the types of the modules.

    Raises
    ------
    NetworkError
        If the network is TorchScript, has other required inputs than the images, raises an exception, or does not
        return one row of real scores for each image.
    """
    check_code(network)
    with exposed_heads(network):
        recorded = _ForwardPass(network, example)
    return NetworkLayout(recorded.layers(channels), recorded.n_outputs)


def _is_scaling(module: nn.Module) -> bool:
    """Return whether a module multiplies each channel by a number and adds another one, whatever the images are."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def _is_convolution(module: nn.Module) -> bool:
    """Return whether a module is a convolution, for which PyTorch has two base classes: one for quantised networks."""
    return any(base.__name__ == "_ConvNd" for base in type(module).__mro__)


class _Tensors:
    """Numbers for the tensors of a forward pass, none of which is kept in memory.

    A tensor that was changed in place gets another number.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], int, int]] = {}
        self._n_numbers = 0

    def number(self, tensor: torch.Tensor) -> int:
        """Return the number of a tensor."""
        version = 0 if tensor.is_inference() else tensor._version
        known = self._known.get(id(tensor))
        if known is None or known[0]() is not tensor or known[1] != version:
            known = self._known[id(tensor)] = weakref.ref(tensor), version, self.new()
        return known[2]

    def new(self) -> int:
        """Return a number that no tensor has."""
        self._n_numbers += 1
        return self._n_numbers


class _ForwardPass:
    """The shapes of all outputs in one forward pass, in the order in which the modules ended."""

    def __init__(self, network: nn.Module, images: torch.Tensor) -> None:
        self._n_images = len(images)
        self._modules = {name: module for name, module in network.named_modules() if name}
        self._calls: list[tuple[str, tuple[int, ...] | None]] = []
        self._complex: set[str] = set()
        self._tensors = _Tensors()
        self._outputs: list[int] = []
        self._scaled: dict[str, int | None] = {}
        self._leaves = {name for name, module in self._modules.items() if next(module.children(), None) is None}
        self._n_other_tokens, self._n_mergings = n_other_tokens(network), n_mergings(network)
        hooks = attached(
            module.register_forward_hook(lambda _m, inputs, output, name=name: self._record(name, inputs, output))
            for name, module in self._modules.items()
        )
        scores = attached([network.register_forward_hook(lambda _m, _i, output: self._record_scores(output))])
        self._scores = -1
        with hooks, scores, torch.no_grad():
            self.n_outputs = forward(network, images).shape[1]

    def _record_scores(self, output: object) -> None:
        tensor = scores_in(output)
        self._scores = -1 if tensor is None else self._tensors.number(tensor)

    def _record(self, name: str, inputs: tuple[object, ...], output: object) -> None:
        tensor = only_tensor(output)
        if _is_scaling(self._modules[name]) and inputs and isinstance(inputs[0], torch.Tensor):
            self._scaled[name] = self._tensors.number(inputs[0])
        self._outputs.append(self._tensors.number(tensor) if tensor is not None else self._tensors.new())
        has_rows = tensor is not None and tensor.ndim >= 2 and len(tensor) == self._n_images
        self._calls.append((name, tuple(tensor.shape[1:]) if tensor is not None and has_rows else None))
        if tensor is not None and tensor.is_complex():
            self._complex.add(name)

    def layers(self, channels: ChannelAxisSetting) -> tuple[LayerInfo, ...]:
        """Return all modules that ran, in the order in which they first ended."""
        found: dict[str, list[tuple[int, tuple[int, ...] | None]]] = defaultdict(list)
        n_leaves, depths = 0, []
        for place, (name, shape) in enumerate(self._calls):
            found[name].append((place, shape))
            n_leaves += name in self._leaves
            depths.append(max(n_leaves - 1, 0))
        infos = []
        for name, calls in found.items():
            place, shape = calls[-1]
            axis: Arrangement | None = channels if channels != "auto" else self._inferred(place)
            module = self._modules[name]
            if isinstance(module, AttentionHeads) and (axis == "last" or isinstance(axis, PatchTokens)):
                axis = Heads(module.n_heads, axis)
            kind, is_complex = type(self._modules[name]).__name__, name in self._complex
            output = self._outputs[place]
            infos.append(
                LayerInfo(
                    name, kind, shape, len(calls), axis, is_complex, depths[place] / max(n_leaves - 1, 1), output,
                    self._scaled.get(name), output == self._scores, _is_convolution(module),
                )
            )  # fmt: skip
        return tuple(infos)

    def _inferred(self, place: int) -> Arrangement | None:
        """Return the axis of the channels of the module that ended at `place`, or the arrangement of its tokens."""
        axis, shape = self._inferred_channels(place), self._calls[place][1]
        if axis != "last" or shape is None or len(shape) != 2:
            return axis
        before = (self._calls[other] for other in reversed(range(place)))
        grids = (
            (size[1], size[2])
            for name, size in before
            if isinstance(self._modules[name], nn.Conv2d) and size is not None and len(size) == 3
        )
        return patch_tokens(shape[0], grids, self._n_other_tokens, self._n_mergings) or axis

    def _inferred_channels(self, place: int) -> ChannelAxis | None:
        """Return the axis of the channels of the module that ended at `place`.

        The type of a module determines the axis for convolutions, linear layers and others. Activations, dropout and
        composite blocks keep the layout of their input: such a module is given the axis of the nearest module of a
        known type whose output has exactly the same shape. Modules that ran before it are searched first (a block ends
        after the modules inside it), then those that ran after it. See docs/decisions/0052.
        """
        shape = self._calls[place][1]
        if isinstance(self._modules[self._calls[place][0]], AttentionHeads):
            return "last"
        if shape is None or len(shape) == 1:
            return "first"
        before = reversed(range(place + 1))
        for other in (*before, *range(place + 1, len(self._calls))):
            name, other_shape = self._calls[other]
            if other_shape == shape and (axis := declared_channels(self._modules[name], shape)) is not None:
                return axis
        return None
