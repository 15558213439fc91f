"""Warnings of Pillow are ignored while any thread decodes, and the filters of the process are restored."""

from __future__ import annotations

import threading
import warnings

import pytest

from pipeline.pillow_warnings import ignored_warnings


def warn_in(module: str) -> None:
    """Give the warning of a line in a module."""
    warnings.warn_explicit("unusual", UserWarning, f"{module}.py", 1, module=module)


def test_the_filters_are_restored_when_the_last_thread_has_decoded() -> None:
    before = list(warnings.filters)
    inside, outside = threading.Event(), threading.Event()

    def decode() -> None:
        with ignored_warnings():
            inside.set()
            outside.wait()

    thread = threading.Thread(target=decode)
    with ignored_warnings():
        thread.start()
        inside.wait()
    warn_in("PIL.TiffImagePlugin")  # the other thread still decodes
    with pytest.raises(UserWarning):  # warnings of other modules are errors in the tests
        warn_in("PILOT")
    outside.set()
    thread.join()
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning):
        warn_in("PIL.TiffImagePlugin")
