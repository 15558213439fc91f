"""Batches that do not fit into the memory while a stage computes. This module does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import MemoryExceededError, is_out_of_memory


@contextmanager
def reported_memory() -> Iterator[None]:
    """Turn errors of memory outside of forward passes into a `MemoryExceededError`; also a decorator of functions."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        from pipeline.networks.forward import LOWER, described

        raise MemoryExceededError(f"a batch must fit into the memory; got {described(error)}. {LOWER}") from error


def smaller_batch(batch_size: int, n_images: int) -> int | None:
    """Return half of the number of images in the largest batch; None if a batch has one image."""
    largest = min(batch_size, n_images)
    return largest // 2 if largest > 1 else None


def batch_note(error: MemoryExceededError, size: int) -> str:
    """Return the message that a batch does not fit, and what is done."""
    got = str(error).partition("; got ")[2].partition(". Lower ")[0]
    return (
        f"A batch of images does not fit into the memory ({got}). The run continues with model.batch_size={size}, "
        "which changes the last digits; finished stages that do not depend on it are kept."
    )
