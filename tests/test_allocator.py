"""Freed memory is kept while a network or numerical code runs."""

from __future__ import annotations

import resource

import pytest
import torch

from pipeline import allocator
from pipeline.allocator import freed_memory_kept


def pages_taken() -> int:
    """Return the number of pages that the system gives for a tensor of 64 MiB, which is freed again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")
def test_memory_is_kept_until_the_last_context_ends_and_returned_then() -> None:
    with freed_memory_kept():
        with freed_memory_kept():
            pages_taken()
        fewest = min(pages_taken() for _ in range(20))  # a block is kept, but small ones may lie behind it at first
    assert fewest < pages_taken() / 10


def test_without_glibc_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with freed_memory_kept():
        assert torch.ones(3).sum() == 3
