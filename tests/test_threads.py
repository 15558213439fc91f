"""Calling a function for several items in threads."""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar

import pytest

from pipeline.threads import in_threads

setting: ContextVar[str] = ContextVar("setting")


def test_the_results_are_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert list(in_threads(str, range(50))) == [str(item) for item in range(50)]
    assert len(set(in_threads(lambda item: threading.get_ident(), range(50))) - {threading.get_ident()}) >= 1


def test_the_first_exception_in_the_order_of_the_items_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    failed = threading.Event()

    def work(item: int) -> int:
        if item == 3:
            assert failed.wait(10)  # the exception of a later item is raised before
        elif item == 4:
            failed.set()
        if item in (3, 4):
            raise ValueError(f"item {item}")
        return item

    with pytest.raises(ValueError, match="item 3"):
        list(in_threads(work, range(6)))


def test_context_variables_are_those_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    setting.set("of the caller")
    assert list(in_threads(lambda item: setting.get(), range(8))) == ["of the caller"] * 8
