"""The heads of an attention layer as a layer of their own, whose channels are the heads.

The output of a head is what it adds to the output projection's input: the values, weighted by the attention. No module
returns it. `exposed_heads` therefore adds a module ``heads`` to each attention layer (``blocks.3.attn.heads``), which
the outputs of all heads pass through, side by side, before the output projection. The module changes nothing, so that
its hooks record and replace the outputs. See docs/decisions/0093.

Recognised are `torch.nn.MultiheadAttention`, the shifted windows of torchvision's Swin, and modules with a number of
heads, projections of queries and an output projection that is called as a module: most transformers of timm and of
transformers. Windows are put back into the order of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from pipeline.networks.windows import Windows, windows_of_block, windows_of_torchvision

NAME = "heads"
_OUTPUT_PROJECTIONS, _QUERIES = ("proj", "o_proj", "out_proj"), ("qkv", "q_proj", "query", "q")
_NUMBERS = ("num_heads", "num_attention_heads")

Through = Callable[[torch.Tensor], torch.Tensor]


class AttentionHeads(nn.Module):
    """The outputs of all heads of an attention layer, side by side; it returns its input.

    Attributes
    ----------
    n_heads : int
        Number of heads. The first ``n_units / n_heads`` units are the output of the first head, and so on.
    raw : list of tensor or None
        If it is a list, the outputs are appended to it as the attention layer has them, before windows are put into the
        order of the image.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.raw: list[torch.Tensor] | None = None
        self.eval()

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the outputs, (n_images, n_tokens, n_units) or (n_images, height, width, n_units)."""
        return outputs

    @property
    def is_observed(self) -> bool:
        """Whether anything is recorded or replaced. Otherwise the network runs as it is."""
        return bool(self._forward_hooks or self._forward_pre_hooks) or self.raw is not None


def expose_heads(network: nn.Module) -> ExitStack:
    """Add a module ``heads`` to each attention layer of a network, and return what removes them when it is closed.

    Attention layers that have an attribute of this name, which may be such a module, are left as they are.
    """
    with ExitStack() as stack:
        for name, module in list(network.named_modules()):
            n_heads = _n_heads(module)
            if n_heads is not None and not hasattr(module, NAME):
                parent = network.get_submodule(name.rpartition(".")[0]) if name else module
                _expose(module, parent, n_heads, stack)
        return stack.pop_all()


@contextmanager
def exposed_heads(network: nn.Module) -> Iterator[None]:
    """Add a module ``heads`` to each attention layer of a network inside the context."""
    with expose_heads(network):
        yield


def _n_heads(module: nn.Module) -> int | None:
    """Return the number of heads of an attention layer whose heads can be exposed; None for other modules."""
    found = next((getattr(module, name) for name in _NUMBERS if isinstance(getattr(module, name, None), int)), None)
    if found is None or found < 1:
        return None
    if isinstance(module, nn.MultiheadAttention):
        return found if type(module).forward is nn.MultiheadAttention.forward else None
    projection = _projection(module)
    if projection is None or projection.in_features % found:
        return None
    return found if any(isinstance(getattr(module, name, None), nn.Linear) for name in _QUERIES) else None


def _projection(module: nn.Module) -> nn.Linear | None:
    found = (getattr(module, name, None) for name in _OUTPUT_PROJECTIONS)
    return next((each for each in found if isinstance(each, nn.Linear)), None)


def _expose(module: nn.Module, parent: nn.Module, n_heads: int, stack: ExitStack) -> None:
    """Add the module ``heads`` to one attention layer, and lead the outputs of its heads through it.

    What undoes this is added to `stack` as plain functions, which do not run if the stack is forgotten.
    """
    heads = AttentionHeads(n_heads)
    module.add_module(NAME, heads)
    stack.callback(module._modules.pop, NAME)
    if isinstance(module, nn.MultiheadAttention):
        _replace_forward(module, partial(_run_multihead, module, heads, module.forward), stack)
    elif type(module).__module__ == "torchvision.models.swin_transformer":
        _replace_forward(module, partial(_run_torchvision_swin, module, heads, module.forward), stack)
    else:
        _change_projection(module, parent, heads, stack)


def _change_projection(module: nn.Module, parent: nn.Module, heads: AttentionHeads, stack: ExitStack) -> None:
    """Lead the input of the output projection through the heads."""
    projection = _projection(module)
    assert projection is not None  # see _n_heads
    block, start = windows_of_block(parent)

    def before(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not heads.is_observed:
            return None
        return (_through(heads, inputs[0], None if block is None else block()), *inputs[1:])

    stack.callback(projection.register_forward_pre_hook(before).remove)
    if start is not None:
        stack.callback(parent.register_forward_pre_hook(start, with_kwargs=True).remove)


def _replace_forward(module: nn.Module, forward: Callable[..., Any], stack: ExitStack) -> None:
    """Replace the method ``forward`` of one module, and not of its class."""
    own = vars(module).get("forward")
    vars(module)["forward"] = forward
    if own is None:
        stack.callback(vars(module).pop, "forward")
    else:
        stack.callback(vars(module).__setitem__, "forward", own)


def _run_multihead(
    module: nn.MultiheadAttention, heads: AttentionHeads, forward: Callable[..., Any], query: torch.Tensor,
    *args: Any, **kwargs: Any,
) -> Any:  # fmt: skip
    """Run PyTorch's attention without its fast path, which does not compute the outputs of the heads separately."""
    if not heads.is_observed or query.ndim != 3 or query.is_nested:
        return forward(query, *args, **kwargs)
    n_images, n_tokens = query.shape[:2] if module.batch_first else (query.shape[1], query.shape[0])

    def through(outputs: torch.Tensor) -> torch.Tensor:
        by_image = outputs.reshape(n_tokens, n_images, -1).transpose(0, 1)  # its rows are the images of each token
        return _through(heads, by_image, None).transpose(0, 1).reshape(outputs.shape)

    is_fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with _linear_input(module.out_proj.weight, through):
            return forward(query, *args, **kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fast)


def _run_torchvision_swin(
    module: nn.Module, heads: AttentionHeads, forward: Callable[..., Any], images: torch.Tensor
) -> Any:
    if not heads.is_observed:
        return forward(images)
    windows = windows_of_torchvision(module, images)
    projection = _projection(module)
    assert projection is not None  # see _n_heads
    with _linear_input(projection.weight, lambda outputs: _through(heads, outputs, windows)):
        return forward(images)


@contextmanager
def _linear_input(weight: torch.Tensor, through: Through) -> Iterator[None]:
    """Change the input of the linear map with this weight, where it is computed by a function and not by a module."""
    linear = functional.linear

    def changed(tensor: torch.Tensor, used: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return linear(through(tensor) if used is weight else tensor, used, bias)

    with mock.patch.object(functional, "linear", changed):
        yield


def _through(heads: AttentionHeads, outputs: torch.Tensor, windows: Windows | None) -> torch.Tensor:
    """Return the outputs of the heads after the module ``heads``, whose hooks see them in the order of the image."""
    if heads.raw is not None:
        heads.raw.append(outputs.detach())
    if windows is None or not windows.fits(outputs):
        result: torch.Tensor = heads(outputs)
        return result
    return windows.back(heads(windows.to_image(outputs)), outputs)
