"""DeepLIFT for the channels of a layer: which operations of a network have which rule, and the pass that uses them.

The network is cut at the layer, and only the part behind the layer needs rules. Captum's DeepLIFT is not used: it knows
the rules of ten types of modules, and silently uses the gradient for all other operations. See docs/decisions/0083.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from pipeline.networks import rescale
from pipeline.networks.forward import network_scores
from pipeline.networks.targets import Score
from pipeline.networks.tracing import tensors_of

N_STEPS = 512  # number of points on the path between two outputs, for a score that is not linear in the outputs

_FUNCTIONS = (
    "relu", "relu6", "elu", "selu", "celu", "leaky_relu", "rrelu", "prelu", "gelu", "silu", "mish", "hardswish",
    "hardsigmoid", "hardtanh", "hardshrink", "softshrink", "tanhshrink", "softplus", "softsign", "logsigmoid",
    "threshold", "sigmoid", "tanh", "exp", "expm1", "log", "log1p", "log2", "sqrt", "rsqrt", "square", "reciprocal",
    "abs", "pow", "clamp", "clip", "clamp_min", "clamp_max", "sin", "cos", "atan", "arctan", "erf", "sinh", "cosh",
    "logit", "exp2",
)  # fmt: skip
_MODULES = (
    nn.ReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.RReLU, nn.PReLU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.Softplus, nn.Softsign,
    nn.LogSigmoid, nn.Threshold, nn.Sigmoid, nn.Tanh,
)  # fmt: skip
_LINEAR_MODULES = (
    nn.modules.conv._ConvNd, nn.Linear, nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.batchnorm._BatchNorm,
    nn.modules.dropout._DropoutNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Fold, nn.Unfold,
    nn.modules.padding._ConstantPadNd, nn.modules.padding._ReflectionPadNd, nn.modules.padding._ReplicationPadNd,
    nn.modules.padding._CircularPadNd,
)  # fmt: skip
# Operations that are not linear and have no rule. Others that are missing from all tables are assumed to be linear;
# the sum of the contributions shows whether they are.
_NAMES_WITHOUT_RULE = (
    "max", "min", "amax", "amin", "maximum", "minimum", "median", "quantile", "sort", "topk", "argmax", "argmin",
    "prod", "cumprod", "norm", "var", "std", "var_mean", "std_mean", "logsumexp", "softmin", "normalize", "detach",
    "local_response_norm", "lp_pool1d", "lp_pool2d", "fractional_max_pool2d", "cosine_similarity", "round", "floor",
    "ceil", "sign", "cdist", "bilinear", "multi_head_attention_forward", "rms_norm", "instance_norm",
)  # fmt: skip
_IN_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
             operator.itruediv: operator.truediv, operator.imatmul: operator.matmul,
             operator.ipow: operator.pow}  # fmt: skip
Target = Callable[..., Any] | str
_PRODUCTS: Mapping[Target, rescale.Operation] = {
    operator.mul: torch.mul, torch.mul: torch.mul, torch.multiply: torch.mul, "mul": torch.mul, "multiply": torch.mul,
    operator.matmul: torch.matmul, torch.matmul: torch.matmul, "matmul": torch.matmul, torch.bmm: torch.bmm,
    "bmm": torch.bmm,
}  # fmt: skip
_QUOTIENTS = (operator.truediv, torch.div, torch.divide, torch.true_divide, "div", "divide", "true_divide")


def _named(names: tuple[str, ...]) -> frozenset[Target]:
    """Return the functions of torch with these names, also those that work in place, and the names of the methods."""
    spaces = (functional, torch, torch.special)
    found = [getattr(space, name + end, None) for name in names for end in ("", "_") for space in spaces]
    return frozenset([*names, *(each for each in found if each is not None)])


_ELEMENTWISE = _named(_FUNCTIONS) | {operator.pow, operator.abs}
_WITHOUT_RULE = _named(_NAMES_WITHOUT_RULE) | {functional.max_pool2d_with_indices}


def _softmax(
    compute: Callable[[torch.Tensor, int], torch.Tensor], values: torch.Tensor, *given: Any, **named: Any
) -> Any:
    """Return a softmax whose axis is the second argument or is called ``dim``."""
    return compute(values, named["dim"] if "dim" in named else given[0])


def _max_pool(n_axes: int, values: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
    """Return the maxima of windows, for the arguments of ``functional.max_pool2d`` and its siblings."""
    pool = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}[n_axes]
    if named.pop("return_indices", False) or len(given) > 5:
        raise NotImplementedError("max_pool with indices")
    return rescale.maximum(lambda each: pool(each, *given, return_indices=True, **named), values, n_axes)


def _adaptive_max_pool(n_axes: int, values: torch.Tensor, output_size: Any) -> torch.Tensor:
    """Return the maxima of windows, for the arguments of ``functional.adaptive_max_pool2d`` and its siblings."""
    pool = {1: functional.adaptive_max_pool1d, 2: functional.adaptive_max_pool2d,
            3: functional.adaptive_max_pool3d}[n_axes]  # fmt: skip
    return rescale.maximum(lambda each: pool(each, output_size, return_indices=True), values, n_axes)


def _glu(values: torch.Tensor, dim: int = -1) -> torch.Tensor:
    first, second = values.chunk(2, dim)
    return rescale.product(torch.mul, first, rescale.elementwise(torch.sigmoid, second))


_RULES: Mapping[Target, Callable[..., Any]] = {
    functional.softmax: partial(_softmax, rescale.softmax), torch.softmax: partial(_softmax, rescale.softmax),
    "softmax": partial(_softmax, rescale.softmax),
    functional.log_softmax: partial(_softmax, rescale.log_softmax),
    torch.log_softmax: partial(_softmax, rescale.log_softmax), "log_softmax": partial(_softmax, rescale.log_softmax),
    functional.layer_norm: rescale.layer_norm, functional.group_norm: rescale.group_norm,
    functional.scaled_dot_product_attention: rescale.attention, functional.glu: _glu,
    functional.max_pool1d: partial(_max_pool, 1), functional.max_pool2d: partial(_max_pool, 2),
    functional.max_pool3d: partial(_max_pool, 3), torch.max_pool1d: partial(_max_pool, 1),
    torch.max_pool2d: partial(_max_pool, 2), torch.max_pool3d: partial(_max_pool, 3),
    functional.adaptive_max_pool1d: partial(_adaptive_max_pool, 1),
    functional.adaptive_max_pool2d: partial(_adaptive_max_pool, 2),
    functional.adaptive_max_pool3d: partial(_adaptive_max_pool, 3),
}  # fmt: skip


def _of_max_pool(module: Any, values: torch.Tensor) -> torch.Tensor:
    n_axes = int(type(module).__name__[-2])
    return _max_pool(
        n_axes, values, module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode,
        return_indices=module.return_indices,
    )  # fmt: skip


_MODULE_RULES: tuple[tuple[type[nn.Module], Callable[..., Any]], ...] = (
    (nn.modules.pooling._MaxPoolNd, _of_max_pool),
    (
        nn.modules.pooling._AdaptiveMaxPoolNd,
        lambda module, values: _adaptive_max_pool(int(type(module).__name__[-2]), values, module.output_size),
    ),
    (nn.Softmax, lambda module, values: rescale.softmax(values, module.dim)),
    (nn.LogSoftmax, lambda module, values: rescale.log_softmax(values, module.dim)),
    (
        nn.LayerNorm,
        lambda module, values: rescale.layer_norm(
            values, module.normalized_shape, module.weight, module.bias, module.eps
        ),
    ),
    (
        nn.GroupNorm,
        lambda module, values: rescale.group_norm(values, module.num_groups, module.weight, module.bias, module.eps),
    ),
    (nn.GLU, lambda module, values: _glu(values, module.dim)),
    (nn.MultiheadAttention, rescale.multihead_attention),
)


def without_rule(behind: fx.GraphModule) -> list[str]:
    """Return the names of the operations behind a layer that are not linear and have no rule, each once, sorted."""
    found = set()
    for node in behind.graph.nodes:
        if node.op == "call_module":
            module = behind.get_submodule(str(node.target))
            known = (*_MODULES, *_LINEAR_MODULES, *(kind for kind, _ in _MODULE_RULES))
            if not isinstance(module, known):
                found.add(type(module).__name__)
        elif node.op in ("call_function", "call_method") and _out_of_place(node.target) in _WITHOUT_RULE:
            found.add(_name(node.target))
    return sorted(found)


def contributions(behind: fx.GraphModule, score: Score, values: tuple[Any, ...], n_images: int) -> list[torch.Tensor]:
    """Return the contribution of every number in `values` to the difference of the scores from those of the baselines.

    Parameters
    ----------
    behind : GraphModule
        From the values to the network's outputs.
    score : callable
        From the outputs to the score of each image.
    values : tuple
        What the part of the network before the layer returned for a batch that holds the inputs and then their
        baselines: tensors of shape (2 n_images, ...), and any other values, which are passed on.
    n_images : int
        Number of inputs.

    Returns
    -------
    list of tensor
        For each tensor of numbers with that first axis, in order, the contributions, (n_images, ...).

    Raises
    ------
    NotImplementedError
        If an operation has no rule for the way in which it is used.
    """
    tensors, rebuild = tensors_of(values, 2 * n_images)
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        outputs = _Propagation(behind).run(*rebuild(leaves))
        outputs = network_scores(outputs, 2 * n_images)
        multiplier = _multiplier_of_score(score, outputs)
        gradients = torch.autograd.grad((outputs * multiplier).sum(), leaves, allow_unused=True)
    found = []
    for value, gradient in zip(leaves, gradients, strict=True):
        given, baseline = value.detach().chunk(2)
        found.append((given - baseline) * (0 if gradient is None else gradient.chunk(2)[0]))
    return found


class _Propagation(fx.Interpreter):
    """Run a graph with the rules of DeepLIFT. A tensor depends on the inputs if it requires a gradient."""

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return a parameter or buffer, which does not depend on the inputs."""
        value = super().get_attr(target, args, kwargs)
        return value.detach() if isinstance(value, torch.Tensor) else value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run a function."""
        return self._call(target, args, kwargs, super().call_function)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run a method of a tensor."""
        return self._call(target, args, kwargs, super().call_method)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run a module."""
        module = self.fetch_attr(target)
        if isinstance(module, _MODULES):
            return rescale.elementwise(module, *args, **kwargs)
        for kind, rule in _MODULE_RULES:
            if isinstance(module, kind):
                return rule(module, *args, **kwargs)
        return super().call_module(target, args, kwargs)

    def _call(self, target: Any, args: Any, kwargs: Any, run: Callable[..., Any]) -> Any:
        target, kwargs = _out_of_place(target), dict(kwargs)
        if kwargs.pop("inplace", False):
            kwargs["inplace"] = False
        given = list(args)
        if not given and "input" in kwargs:
            given = [kwargs.pop("input")]
        depending = [place for place, each in enumerate(given) if _depends(each)]
        if not depending:
            return run(target, tuple(given), kwargs)
        if any(_depends(each) for each in kwargs.values()) and target not in _RULES:
            raise NotImplementedError(_name(target))
        if target in _PRODUCTS and len(depending) == 2:
            return rescale.product(_PRODUCTS[target], *given)
        if target in _QUOTIENTS and 1 in depending:
            return rescale.quotient(given[0], given[1])
        if target in _RULES:
            return _RULES[target](*given, **kwargs)
        if target in _ELEMENTWISE:
            if depending != [0]:
                raise NotImplementedError(_name(target))
            return rescale.elementwise(lambda values: run(target, (values, *given[1:]), kwargs), given[0])
        if target in _WITHOUT_RULE:
            raise NotImplementedError(_name(target))
        return run(target, tuple(given), kwargs)


def _multiplier_of_score(score: Score, outputs: torch.Tensor) -> torch.Tensor:
    """Return the mean gradient of the score along the straight path from the baselines' outputs to those of the inputs.

    It has the shape of `outputs` and is 0 for the baselines. It is the exact gradient if the score is one output.
    """
    given, baseline = outputs.detach().double().chunk(2)
    total = torch.zeros_like(given)
    for step in range(N_STEPS):
        point = (baseline + (given - baseline) * ((step + 0.5) / N_STEPS)).requires_grad_()
        (gradient,) = torch.autograd.grad(score(point).sum(), point)
        total += gradient
    return torch.cat([total / N_STEPS, torch.zeros_like(total)]).to(outputs.dtype)


def _depends(value: Any) -> bool:
    """Return whether a value, or one in a list or tuple of values, depends on the inputs."""
    if isinstance(value, list | tuple):
        return any(_depends(each) for each in value)
    return isinstance(value, torch.Tensor) and value.requires_grad


def _out_of_place(target: Any) -> Any:
    """Return the operation that gives the same values as one that works in place."""
    if isinstance(target, str):
        return target.removesuffix("_") if not target.endswith("__") else target
    return _IN_PLACE.get(target, target)


def _name(target: Any) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))
