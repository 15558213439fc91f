"""Calling a function for several items in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")


def in_threads(function: Callable[[_ItemT], _ResultT], items: Sequence[_ItemT]) -> Iterator[_ResultT]:
    """Yield ``function(item)`` for every item, in order, computed in as many threads as there are cores.

    It is for functions that spend their time without the interpreter's lock, such as decoding by Pillow. An exception
    is raised in the place of the result, and ends the computation.
    """
    n_threads = min(os.cpu_count() or 1, len(items))
    if n_threads < 2:
        yield from map(function, items)
        return
    tasks: deque[Future[_ResultT]] = deque()
    with ThreadPoolExecutor(n_threads) as threads:
        try:
            tasks.extend(threads.submit(copy_context().run, function, item) for item in items)
            while tasks:
                yield tasks.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
