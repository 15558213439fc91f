"""DeepLIFT's rules: multipliers that pass differences from a baseline through operations that are not linear.

All functions take and return tensors whose first half belongs to the inputs and whose second half to their baselines,
(2 n_images, ...). They return the values of the operation, and their gradient is the multiplier of the rule, so that
automatic differentiation propagates contributions as it propagates gradients. Operations that are linear need no rule:
their gradient is their multiplier.

- Elementwise functions have the rescale rule: the difference of the output divided by the difference of the input.
- In a product, the multiplier of each factor is the mean of the other factor over the input and its baseline, which is
  the Shapley value of a product of two factors.
- The difference of a maximum is assigned to the position of the larger of the two maxima.
- All others (softmax, normalisations, attention) are composed of these.

The contributions of all values that an operation reads therefore sum to the difference of its output.

References
----------
Shrikumar, Greenside and Kundaje (2017), "Learning important features through propagating activation differences",
arXiv 1704.02685. Chen, Lundberg and Lee (2022), "Explaining a series of models by propagating Shapley values",
arXiv 2105.00108.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Operation = Callable[..., torch.Tensor]

# Where an input differs from its baseline by less than this share of their magnitudes, the quotient of the differences
# has no correct digits in float32, and the derivative is used.
SMALL = 1e-5


def elementwise(function: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """Return a function of each value, with the rescale rule."""
    given, baseline = values.detach().chunk(2)
    with torch.no_grad():
        found = function(values.detach().clone())  # the function may work in place
    with torch.enable_grad():
        middle = ((given + baseline) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(function(middle.clone()).sum(), middle)
    difference = given - baseline
    is_small = difference.abs() <= SMALL * (given.abs() + baseline.abs())
    quotient = (found.chunk(2)[0] - found.chunk(2)[1]) / difference.masked_fill(is_small, 1)
    return _with_multiplier(found, values, torch.where(is_small, slope, quotient))


def product(multiply: Operation, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return a product of two values by a function that is linear in each of them, such as ``torch.matmul``."""
    with torch.no_grad():
        found = multiply(first, second)
    linear = multiply(first, _mean(second)) + multiply(_mean(first), second)
    return found + (linear - linear.detach())


def quotient(first: torch.Tensor | float, second: torch.Tensor) -> torch.Tensor:
    """Return ``first / second``, where both or only the second depend on the inputs."""
    inverse = elementwise(torch.reciprocal, second)
    if isinstance(first, torch.Tensor) and first.requires_grad:
        return product(torch.mul, first, inverse)
    return first * inverse


def maximum(
    pool: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], values: torch.Tensor, n_axes: int
) -> torch.Tensor:
    """Return the maxima of windows.

    Parameters
    ----------
    pool : callable
        From values to the maxima, and the indices of their positions in the flattened last `n_axes` axes.
    values : tensor of shape (2 n_images, ...)
        The input.
    n_axes : int
        Number of axes of a window.
    """
    with torch.no_grad():
        found, places = pool(values)
    (given, baseline), (place, baseline_place) = found.chunk(2), places.chunk(2)
    chosen = torch.where(given >= baseline, place, baseline_place).repeat(2, *[1] * (places.ndim - 1))
    picked = values.flatten(-n_axes).gather(-1, chosen.flatten(-n_axes)).reshape(found.shape)
    difference = picked.detach().chunk(2)[0] - picked.detach().chunk(2)[1]
    multiplier = torch.where(difference == 0, 0.0, (given - baseline) / difference.masked_fill(difference == 0, 1))
    return _with_multiplier(found, picked, multiplier)


def softmax(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the softmax along an axis."""
    exponential = elementwise(torch.exp, values - _largest(values, dim))
    return quotient(exponential, exponential.sum(dim, keepdim=True))


def log_softmax(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the logarithm of the softmax along an axis."""
    shifted = values - _largest(values, dim)
    return shifted - elementwise(torch.log, elementwise(torch.exp, shifted).sum(dim, keepdim=True))


def standardised(values: torch.Tensor, axes: tuple[int, ...], eps: float) -> torch.Tensor:
    """Return the values minus their mean over some axes, divided by their standard deviation."""
    deviation = values - values.mean(axes, keepdim=True)
    variance = elementwise(torch.square, deviation).mean(axes, keepdim=True)
    return product(torch.mul, deviation, elementwise(lambda each: torch.rsqrt(each + eps), variance))


def layer_norm(
    values: torch.Tensor,
    normalized_shape: tuple[int, ...],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Return what ``functional.layer_norm`` returns."""
    found = standardised(values, tuple(range(-len(normalized_shape), 0)), eps)
    found = found if weight is None else found * weight
    return found if bias is None else found + bias


def group_norm(
    values: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Return what ``functional.group_norm`` returns."""
    grouped = values.reshape(len(values), num_groups, -1)
    found, shape = standardised(grouped, (2,), eps).reshape(values.shape), (-1, *[1] * (values.ndim - 2))
    found = found if weight is None else found * weight.reshape(shape)
    return found if bias is None else found + bias.reshape(shape)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Return what ``functional.scaled_dot_product_attention`` returns, for a mask of floats or none."""
    if dropout_p or is_causal or (attn_mask is not None and attn_mask.dtype == torch.bool):
        raise NotImplementedError("attention with dropout or a mask of booleans")
    similarity = product(torch.matmul, query, key.transpose(-2, -1)) * (
        query.shape[-1] ** -0.5 if scale is None else scale
    )
    weights = softmax(similarity if attn_mask is None else similarity + attn_mask, -1)
    return product(torch.matmul, weights, value)


def multihead_attention(module: nn.MultiheadAttention, query: Any, key: Any, value: Any, **options: Any) -> Any:
    """Return the output of a module of attention, and None for its weights."""
    if options.get("key_padding_mask") is not None or module.bias_k is not None or module.add_zero_attn:
        raise NotImplementedError("attention with masks or additional keys")
    if options.get("attn_mask") is not None or options.get("is_causal"):
        raise NotImplementedError("attention with masks or additional keys")
    if not module.batch_first:
        query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    weights = (
        module.in_proj_weight.chunk(3)
        if module.in_proj_weight is not None
        else (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    )
    biases = module.in_proj_bias.chunk(3) if module.in_proj_bias is not None else (None, None, None)
    queries, keys, contents = (
        functional.linear(each, weight, bias).reshape(*each.shape[:2], module.num_heads, -1).transpose(1, 2)
        for each, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    found = module.out_proj(attention(queries, keys, contents).transpose(1, 2).flatten(2))
    return (found if module.batch_first else found.transpose(0, 1)), None


def _with_multiplier(found: torch.Tensor, values: torch.Tensor, multiplier: torch.Tensor) -> torch.Tensor:
    """Return `found`, with a gradient with respect to `values` that is the multiplier, in both halves."""
    return found + torch.cat([multiplier, multiplier]) * (values - values.detach())


def _mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of the inputs' and the baselines' values, once for each half, without a gradient."""
    given, baseline = values.detach().chunk(2)
    mean = (given + baseline) / 2
    return torch.cat([mean, mean])


def _largest(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the largest value along an axis, of the inputs and the baselines together, without a gradient."""
    given, baseline = values.detach().amax(dim, keepdim=True).chunk(2)
    largest = torch.maximum(given, baseline)
    return torch.cat([largest, largest])
