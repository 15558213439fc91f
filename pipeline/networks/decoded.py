"""Decoded images: several are decoded at a time, each only once in a run, and the next batch during the computation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import torch

KEPT_BYTES = 256 * 2**20  # of decoded images that a run keeps: some 400 inputs of 224 x 224 pixels

_ResultT = TypeVar("_ResultT")
_BatchT = TypeVar("_BatchT")


class _Kept:
    """Results by key, up to a total size; the first ones are kept, since every reader begins with the first image."""

    def __init__(self) -> None:
        self._results: dict[Any, Any] = {}
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Any) -> Any:
        """Return the result, or None."""
        return self._results.get(key)

    def put(self, key: Any, result: Any, n_bytes: int) -> None:
        """Keep a result if there is room for it."""
        with self._lock:
            if key not in self._results and self._n_bytes + n_bytes <= KEPT_BYTES:
                self._results[key] = result
                self._n_bytes += n_bytes


_kept: ContextVar[_Kept | None] = ContextVar("kept", default=None)


@contextmanager
def decoded_once() -> Iterator[None]:
    """Inside the context, decoded images are kept up to `KEPT_BYTES`, so files that they come from must not change."""
    if _kept.get() is not None:
        yield
        return
    token = _kept.set(_Kept())
    try:
        yield
    finally:
        _kept.reset(token)


def once(key: tuple[Any, ...], decode: Callable[[], _ResultT], size: Callable[[_ResultT], int]) -> _ResultT:
    """Return what `decode` returns, from memory if it has been called with this key inside of `decoded_once`.

    Parameters
    ----------
    key : tuple
        The file, and how it is decoded.
    decode : callable
        Decodes it. Nobody may change the result.
    size : callable
        From the result to its size in bytes.
    """
    kept = _kept.get()
    if kept is None:
        return decode()
    found = kept.get(key)
    if found is None:
        found = decode()
        kept.put(key, found, size(found))
    return cast(_ResultT, found)


def ahead(
    read: Callable[[_BatchT], torch.Tensor], batches: Sequence[_BatchT]
) -> Iterator[tuple[_BatchT, torch.Tensor]]:
    """Yield each batch and what `read` returns for it, while another thread reads the next one.

    At most two batches are in memory. An exception of `read` is raised when its batch is asked for.
    """
    import torch  # imported here because a run that decodes nothing does not need it

    context, is_grad = copy_context(), torch.is_grad_enabled()  # both belong to a thread

    def read_next(batch: _BatchT) -> torch.Tensor:
        with torch.set_grad_enabled(is_grad):
            return read(batch)

    with ThreadPoolExecutor(1) as reader:
        upcoming = [reader.submit(context.run, read_next, batch) for batch in batches[:1]]
        for number, batch in enumerate(batches, start=1):
            images = upcoming.pop().result()
            upcoming += [reader.submit(context.run, read_next, each) for each in batches[number : number + 1]]
            yield batch, images
