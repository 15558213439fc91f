"""Compilation of the numerics by numba: cached on disk, so that it happens once on a machine, and announced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from numba import njit
from numba.core import config, event
from numba.core.caching import UserProvidedCacheLocator
from platformdirs import user_cache_path

from pipeline.files import temporary_home
from pipeline.numerics.announcement import announce


@cache
def cache_dir() -> Path:
    """Return the folder of cached machine code: in the user's cache folder or, if that is not writable, temporary.

    There is one folder for each state of the sources. Numba by itself checks only the file of the function that is
    called, and would go on using code that it has inlined from another file, even after that file has changed.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    given = str(vars(config)["CACHE_DIR"])  # NUMBA_CACHE_DIR
    try:
        own = Path(given) if given else user_cache_path("pcace")
        folder = own / f"numba-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: the user has no home directory
        pass
    return temporary_home() / f"numba-{digest}"


class Locator(UserProvidedCacheLocator):
    """Makes numba store its cache directly in `cache_dir`, whose name identifies the sources.

    Numba's own locator adds a folder for each path of the sources, so that every copy of a checkout (DVC's queue makes
    one for each experiment) would be compiled again.
    """

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        super().__init__(function, file)  # type: ignore[no-untyped-call]
        self._cache_path = str(cache_dir())

    def get_source_stamp(self) -> str:
        """Return the name that identifies the state of the sources."""
        return cache_dir().name


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function on its first call, and cache the machine code on disk; it runs without the interpreter's lock.

    Floating-point operations keep their order (no ``fastmath``), so that the same input gives the same bits on every
    machine. Division by zero follows IEEE 754, as in NumPy.
    """
    return _compiled(function, inline="never")


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function as a part of its callers, which saves one compilation where there is a single caller."""
    return _compiled(function, inline="always")


def _compiled(function: Callable[..., Any], inline: Literal["never", "always"]) -> Callable[..., Any]:
    settings = vars(config)
    ours = {"CACHE_DIR": str(cache_dir()), "CACHE_LOCATOR_CLASSES": f"{__name__}.{Locator.__name__}"}
    before = {name: settings.get(name, "") for name in ours}  # older versions of numba lack the second
    settings.update(ours)
    try:
        result: Callable[..., Any] = njit(nogil=True, error_model="numpy", cache=True, inline=inline)(function)
    finally:
        settings.update(before)
    return result


class _Announcer(event.Listener):
    """Announces once that functions of this package are being compiled."""

    def __init__(self) -> None:
        self._said = False

    def on_start(self, event: event.Event) -> None:
        function = event.data["dispatcher"].py_func
        if not self._said and function.__module__.startswith("pipeline."):
            self._said = True
            announce()

    def on_end(self, event: event.Event) -> None:
        """Do nothing: the end of a compilation is not announced."""


_announcer = _Announcer()
event.register("numba:compile", _announcer)  # type: ignore[no-untyped-call]
