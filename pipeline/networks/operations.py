"""The number of operations of a computation with PyTorch, which says how long it takes on any machine.

The number does not depend on the machine, so that what is decided by it is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# Operations that a value counts as that is written to memory. Measured on a CPU: 3 to 4 ns for a value, and 60 to 100
# operations of a convolution in a nanosecond; see docs/cost.md.
PER_VALUE = 200

ResultT = TypeVar("ResultT")


class Operations(NamedTuple):
    """Numbers of operations for one image: of the part before a layer, and of the part behind it."""

    before: float
    behind: float


@contextmanager
def counting() -> Iterator[Counter]:
    """Count the operations within the context.

    They are the floating-point operations of convolutions and matrix products (an addition and a multiplication are
    two), and `PER_VALUE` for each value that any operation writes: activation functions, normalisations and pooling
    hardly compute, and take the time of the memory. Operations that several devices compute in different ways, such as
    attention, are counted as if they were composed of the others.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), Counter() as counter:  # type: ignore[no-untyped-call]
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def counted_operations(compute: Callable[[], ResultT]) -> tuple[float, ResultT]:
    """Return the number of operations that a computation takes, to three significant digits, and its result.

    Parameters
    ----------
    compute : callable
        The computation. It is run once.
    """
    with counting() as counter:
        result = compute()
    return float(f"{counter.n_operations:.3g}"), result


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that run within its context; use `counting`.

    Attributes
    ----------
    n_operations : float
        Number of operations until now.
    """

    n_operations: float = 0
    supports_higher_order_operators = True  # such as torch.cond, of which only the values that are written count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        is_plain = isinstance(func, torch._ops.OpOverload)
        formula = flop_registry.get(func._overloadpacket if is_plain else func)
        if formula is not None:
            self.n_operations += formula(*args, **(kwargs or {}), out_val=found)
        if not (is_plain and func.is_view):
            written = [each.numel() for each in tree_leaves(found) if isinstance(each, torch.Tensor)]
            self.n_operations += PER_VALUE * max(written, default=0)  # others are the statistics of normalisations
        return found
