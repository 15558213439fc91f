"""Hooks on modules that are always removed again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def attached(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove the hooks at the end of the context, whatever ends it.

    Parameters
    ----------
    handles : iterable of RemovableHandle
        What ``module.register_forward_hook(...)`` and its siblings return. Pass a generator, so that hooks which are
        already registered are removed as well if registering a later one fails.

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
