"""Imports of large libraries, which Python's garbage collector would make slower."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

# Numbers of new objects, and of searches of younger generations, after which a command searches for garbage. Python's
# are 700, 10 and 10.
THRESHOLDS = (20_000, 20, 20)


@contextmanager
def without_collection() -> Iterator[None]:
    """Do not search for garbage within the context.

    The modules of a run, torch and MLflow among them, consist of half a million objects, and hardly any of them becomes
    garbage. The collector would search all of them eight times while they are imported, which is a quarter of the time
    that the imports take.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def import_for_command(*names: str) -> None:
    """Import the modules of a command without searching for garbage, and never search them later either.

    From then on, garbage is searched for more rarely: the stages import torch, matplotlib and others when they need
    them, and Python's thresholds would let it search the objects of these libraries dozens of times.

    When the process ends, no garbage is searched for either: Python would search all objects several times, which
    takes a second with torch and MLflow, and all memory is given back then anyway. Functions that are registered with
    `atexit` are called as always.

    Only commands call this function, because this concerns all objects of the process. It does nothing if all
    modules have been imported already, as in the second job of a sweep.

    Parameters
    ----------
    *names : str
        Full names of the modules.
    """
    if all(name in sys.modules for name in names):
        return
    with without_collection():
        for name in names:
            import_module(name)
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    atexit.unregister(gc.freeze)  # so that it is registered once
    atexit.register(gc.freeze)
