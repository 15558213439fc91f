"""Results that are computed once for all layers of a network, instead of once for each layer and stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any, TypeVar, cast

from pipeline.networks.decoded import decoded_once
from pipeline.settings import ModelSettings

_ResultT = TypeVar("_ResultT")
_known: ContextVar[dict[str, Any] | None] = ContextVar("known", default=None)


@contextmanager
def remembered() -> Iterator[None]:
    """Inside the context, results of `remember` and images are kept, so files that they come from must not change.

    Networks are shared inside the context, as they are by all stages of a ranking in memory.
    """
    token = _known.set({})
    try:
        with decoded_once():
            yield
    finally:
        _known.reset(token)


def remember(what: str, model: ModelSettings, seed: int, compute: Callable[[], _ResultT]) -> _ResultT:
    """Return the result of a function, which is called only once inside the context `remembered`.

    Parameters
    ----------
    what : str
        What the function computes.
    model : ModelSettings
        The network that it is computed for.
    seed : int
        Seed of the network's random weights; 0 if they do not matter.
    compute : callable
        Computes the result.
    """
    known = _known.get()
    if known is None:
        return compute()
    key = json.dumps([what, seed, asdict(model)], sort_keys=True, default=str)
    if key not in known:
        known[key] = compute()
    return cast(_ResultT, known[key])
