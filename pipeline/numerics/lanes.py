"""Several numbers side by side, one for each lane of a vector register: what one number can do, they do together.

Inside compiled functions, an array of lanes takes the place of an array of numbers: the same source, compiled for both,
does the same operations in the same order in every lane, and so gives the same bits. Only a decision must be taken by
`where` and `any_of` in place of ``if``, since it may fall differently in each lane.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typeconv.castgraph import Conversion
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import lower_builtin, lower_cast, models, register_model
from numba.np.arrayobj import make_array, populate_array

from pipeline.arrays import Float64Array

N_LANES = 8  # one register of AVX-512; a compiler takes two of AVX2, or four of SSE and Neon
NUMBER_SIZE = 8  # bytes
VECTOR = ir.VectorType(ir.DoubleType(), N_LANES)
BITS = ir.VectorType(ir.IntType(1), N_LANES)


def aligned_zeros(shape: tuple[int, ...]) -> Float64Array:
    """Return zeros whose lanes lie within lines of the cache each: across two, they take a quarter longer."""
    size = math.prod(shape)
    memory = np.zeros(size + N_LANES)
    start = -memory.ctypes.data // NUMBER_SIZE % N_LANES
    return memory[start : start + size].reshape(shape)


class LanesType(types.Type):
    """N_LANES float64."""

    def __init__(self):
        super().__init__(name="Lanes")

    def can_convert_from(self, typingctx, other):
        """Take a number for every lane."""
        return Conversion.safe if isinstance(other, types.Float | types.Integer) else None


class MaskType(types.Type):
    """N_LANES booleans: what a comparison of lanes gives."""

    def __init__(self):
        super().__init__(name="Mask")


LANES, MASK = LanesType(), MaskType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, VECTOR)


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, BITS)


@lower_cast(types.Float, LANES)
@lower_cast(types.Integer, LANES)
def _in_every_lane(context, builder, from_type, _, value):
    number = context.cast(builder, value, from_type, types.float64)
    first = builder.insert_element(VECTOR(ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, VECTOR(ir.Undefined), ir.VectorType(ir.IntType(32), N_LANES)([0] * N_LANES))


def _register(function, result, n_arguments, lower):
    arguments = (LANES,) * n_arguments
    infer_global(function)(type("_Template", (ConcreteTemplate,), {"cases": [signature(result, *arguments)]}))
    lower_builtin(function, *arguments)(lower)


def _arithmetic(name, context, builder, sig, args):
    return getattr(builder, name)(*args)


def _comparison(symbol, context, builder, sig, args):
    return builder.fcmp_ordered(symbol, *args)


def _magnitude(context, builder, sig, args):
    name, kind = f"llvm.fabs.v{N_LANES}f64", ir.FunctionType(VECTOR, [VECTOR])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


for _name in ("add", "sub", "mul", "truediv"):
    for _function in (getattr(operator, _name), getattr(operator, f"i{_name}")):
        _register(_function, LANES, 2, partial(_arithmetic, f"f{_name.removeprefix('true')}"))
for _function, _name in ((operator.lt, "<"), (operator.gt, ">")):
    _register(_function, MASK, 2, partial(_comparison, _name))
_register(abs, LANES, 1, _magnitude)


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have compiled functions call what `function` writes; it gets their arguments' types, and the callers values."""
    result: Callable[..., Any] = numba_intrinsic(function)
    return result


@intrinsic
def where(typingctx, condition, one, other):
    """Return ``one if condition else other``, lane by lane."""
    kind = LANES if condition is MASK else types.float64

    def codegen(context, builder, sig, args):
        return builder.select(*args)

    return kind(condition, kind, kind), codegen


@intrinsic
def any_of(typingctx, condition):
    """Return whether `condition` holds in any lane."""

    def codegen(context, builder, sig, args):
        if condition is not MASK:
            return args[0]
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], ir.IntType(N_LANES)), ir.IntType(N_LANES)(0))

    return types.boolean(condition), codegen


@intrinsic
def elements(typingctx, array):
    """Return numbers (rows, n, N_LANES) as rows of n lanes, and numbers (rows, n) as they are; see `borrowed`."""
    if array.ndim == 2:
        return _view(array, array)
    # As lanes' alignment is that of a vector, and numbers' that of a number: not `aligned`.
    return _view(array, types.Array(LANES, array.ndim - 1, "C", aligned=False))


@intrinsic
def numbers(typingctx, array):
    """Return the numbers in n elements, (n, N_LANES) for lanes and (n, 1) for numbers; see `borrowed`."""
    return _view(array, types.Array(types.float64, array.ndim + 1, "C"))


@intrinsic
def borrowed(typingctx, array):
    """Return the array without a count of its references: counting those of its rows takes longer than a short sum.

    Only for what somebody else holds on to.
    """
    return _view(array, array)


def _view(array, target):
    """Return an intrinsic's signature and code: the same memory as `target`, borrowed."""
    n_lanes = N_LANES if array.dtype is LANES else 1

    def codegen(context, builder, sig, args):
        given, found = make_array(array)(context, builder, args[0]), make_array(target)(context, builder)
        shape, strides = cgutils.unpack_tuple(builder, given.shape), cgutils.unpack_tuple(builder, given.strides)
        size = given.itemsize
        if target.ndim > array.ndim:
            size = size.type(NUMBER_SIZE)
            shape, strides = [*shape, size.type(n_lanes)], [*strides, size]
        elif target.ndim < array.ndim:
            size = strides[-2]
            shape, strides = shape[:-1], strides[:-1]
        populate_array(found, builder.bitcast(given.data, found.data.type), shape, strides, size, meminfo=None)
        return found._getvalue()

    return target(array), codegen
