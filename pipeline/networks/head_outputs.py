"""Whether what an attention layer passes to its output projection are the outputs of its heads, side by side.

Layers of many packages are recognised by their parts (see `pipeline.networks.heads`), which does not prove what they
compute: some normalise or gate the outputs, or arrange the units of the heads in another way. The outputs are therefore
compared with the products of attention and values that the layer computes, for a few images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pipeline.errors import NetworkError
from pipeline.networks.forward import forward
from pipeline.networks.heads import AttentionHeads
from pipeline.networks.hooks import attached
from pipeline.networks.layout import LayerInfo
from pipeline.networks.module_order import owner

_PRODUCTS = (
    functional.scaled_dot_product_attention, torch.matmul, torch.bmm, torch.einsum, torch.Tensor.matmul,
    torch.Tensor.bmm, torch.Tensor.__matmul__,
)  # fmt: skip


class _Products(TorchFunctionMode):
    """Record the results of attention and of products of matrices while `is_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_on, self.found = False, list[torch.Tensor]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.is_on and func in _PRODUCTS and isinstance(result, torch.Tensor):
            self.found.append(result.detach())
        return result


@torch.no_grad()
def check_heads(network: nn.Module, layer: LayerInfo, sample: torch.Tensor) -> None:
    """Check that the channels of a layer are the outputs of attention heads, if it is said to consist of heads.

    Parameters
    ----------
    network : Module
        The network, whose heads are exposed.
    layer : LayerInfo
        The layer. Nothing is checked for other layers, and for `torch.nn.MultiheadAttention`, whose code is known.
    sample : tensor of shape (n_images, ...)
        A few inputs.

    Raises
    ------
    NetworkError
        If the layer passes something else to its output projection.
    """
    heads = network.get_submodule(layer.name)
    attention = network.get_submodule(owner(layer.name))
    if not isinstance(heads, AttentionHeads) or isinstance(attention, nn.MultiheadAttention):
        return
    products = _Products()

    def begin(*_: Any) -> None:
        products.is_on = True

    def end(*_: Any) -> None:
        products.is_on = False

    heads.raw = []
    try:
        handles = [attention.register_forward_pre_hook(begin), attention.register_forward_hook(end)]
        with attached(handles), products:
            forward(network, sample)
        outputs = heads.raw
    finally:
        heads.raw = None
    if len(outputs) != 1 or not any(_is_same(product, outputs[0], heads.n_heads) for product in products.found):
        raise NetworkError(
            "layer must consist of the outputs of attention heads, which are the attention times the values; got "
            f"something else before the output projection (layer '{layer.name}', {type(attention).__name__}). Choose "
            f"another layer, for example '{owner(layer.name)}'."
        )


def _is_same(product: torch.Tensor, outputs: torch.Tensor, n_heads: int) -> bool:
    """Return whether outputs of shape (n_rows, n_tokens, n_units) are a product of (n_rows, n_heads, n_tokens, ...)."""
    if outputs.ndim != 3 or product.numel() != outputs.numel() or product.ndim not in (3, 4):
        return False
    n_rows, n_tokens, _ = outputs.shape
    if tuple(product.shape[:-1]) not in ((n_rows, n_heads, n_tokens), (n_rows * n_heads, n_tokens)):
        return False
    by_head = product.reshape(n_rows, n_heads, n_tokens, -1).transpose(1, 2).reshape(outputs.shape)
    return torch.equal(by_head.to(outputs.dtype), outputs)
