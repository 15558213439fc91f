"""A numba type that holds several numbers, one in each lane of a vector register, with the arithmetic of a number.

In compiled functions an array of lanes can take the place of an array of numbers. The same source, compiled for both,
does the same operations in the same order in every lane, and so gives the same bits. Decisions must be written with
`where` and `any_of` instead of ``if``, since they may differ between lanes.
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

N_LANES = 8  # one AVX-512 register; the compiler uses two registers of AVX2, or four of SSE or Neon
NUMBER_SIZE = 8  # bytes
VECTOR = ir.VectorType(ir.DoubleType(), N_LANES)
BITS = ir.VectorType(ir.IntType(1), N_LANES)


def aligned_zeros(shape: tuple[int, ...]) -> Float64Array:
    """Return zeros whose address keeps the lanes of an element in one cache line; across two, work is 25 % slower."""
    size = math.prod(shape)
    memory = np.zeros(size + N_LANES)
    start = -memory.ctypes.data // NUMBER_SIZE % N_LANES
    return memory[start : start + size].reshape(shape)


class LanesType(types.Type):
    """The numba type of N_LANES float64 numbers."""

    def __init__(self):
        super().__init__(name="Lanes")

    def can_convert_from(self, typingctx, other):
        """Allow a number, which is then the value of every lane."""
        return Conversion.safe if isinstance(other, types.Float | types.Integer) else None


class MaskType(types.Type):
    """The numba type of N_LANES booleans, the result of a comparison of lanes."""

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


def _elementary(name, context, builder, sig, args):
    kind = ir.FunctionType(VECTOR, [VECTOR])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{N_LANES}f64"), args)


for _name in ("add", "sub", "mul", "truediv"):
    for _function in (getattr(operator, _name), getattr(operator, f"i{_name}")):
        _register(_function, LANES, 2, partial(_arithmetic, f"f{_name.removeprefix('true')}"))
for _function, _name in ((operator.lt, "<"), (operator.gt, ">")):
    _register(_function, MASK, 2, partial(_comparison, _name))
for _function, _name in ((abs, "fabs"), (math.sqrt, "sqrt")):
    _register(_function, LANES, 1, partial(_elementary, _name))


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make `function` an intrinsic: compiled functions call the code that it generates from their arguments' types."""
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
    """Return an array of shape (rows, n, N_LANES) as rows of n lanes, and one of shape (rows, n) unchanged.

    The result is `borrowed`.
    """
    if array.ndim == 2:
        return _view(array, array)
    # Not `aligned`: the array is only known to have the alignment of numbers, and lanes have that of a vector.
    return _view(array, types.Array(LANES, array.ndim - 1, "C", aligned=False))


@intrinsic
def numbers(typingctx, array):
    """Return the numbers in an array of n elements: of shape (n, N_LANES) for lanes, and (n, 1) for numbers.

    The result is `borrowed`.
    """
    return _view(array, types.Array(types.float64, array.ndim + 1, "C"))


@intrinsic
def borrowed(typingctx, array):
    """Return the array without reference counting, which would cost more for each of its rows than a short sum.

    The caller must keep a counted reference to the array.
    """
    return _view(array, array)


def _view(array, target):
    """Return the signature and code of an intrinsic that returns the memory of `array` as `target`, borrowed."""
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
