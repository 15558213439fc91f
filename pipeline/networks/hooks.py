"""Temporary changes of a network: hooks that are always removed, and activations that do not work in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch import nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def attached(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove the hooks at the end of the context, also if it ends with an exception.

    Parameters
    ----------
    handles : iterable of RemovableHandle
        The handles that ``module.register_forward_hook(...)`` and similar methods return. If they come from a
        generator, the hooks that are already registered are also removed if registering a later one fails.

    Examples
    --------
    >>> from torch import nn
    >>> from pipeline.networks.hooks import attached
    >>> network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> with attached(module.register_forward_hook(print) for module in network):
    ...     pass
    """
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


@contextmanager
def without_inplace(network: nn.Module) -> Iterator[None]:
    """Set ``inplace=False`` on all modules inside the context: gradients need the values that would be overwritten."""
    modules = [module for module in network.modules() if getattr(module, "inplace", False) is True]
    for module in modules:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in modules:
            module.inplace = True  # type: ignore[assignment]
