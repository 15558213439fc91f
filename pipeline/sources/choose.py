"""Which images of a source are taken, and in which order: no files, no pixels, only names.

The order is fixed by the data alone, so that a set of more images begins with nearly the same ones:

- ``class``: the class's images in the source's order;
- ``all``: the classes take turns, each in the source's order, until all of them are used up;
- ``balanced``: one of the class, one of the rest (where the classes take turns), and so on; of an odd number the class
  has the larger half.

``select="random"`` draws from that pool with the seed and keeps its order.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, assert_never

import numpy as np

Item = TypeVar("Item")


@dataclass(frozen=True)
class ImageRequest:
    """Which images are wanted.

    Attributes
    ----------
    class_name : str or None
        None where the source knows no classes, or where all of them serve.
    n_images : int
        Exactly as many.
    select : {"first", "random"}
        The first in order, or a sample drawn with `seed`, in order.
    seed : int
        Read only by ``select="random"``.
    images_from : {"class", "all", "balanced"}
        The class alone, all classes, or half and half.
    """

    class_name: str | None
    n_images: int
    select: Literal["first", "random"]
    seed: int
    images_from: Literal["class", "all", "balanced"] = "class"


class TooFewError(Exception):
    """There are fewer images than were asked for; at most `n_available` can be had."""

    def __init__(self, n_available: int) -> None:
        super().__init__(n_available)
        self.n_available = n_available


def choose(request: ImageRequest, by_class: Mapping[str, Sequence[Item]]) -> list[Item]:
    """Return the items that `request` asks for.

    Parameters
    ----------
    request : ImageRequest
        For ``class`` and ``balanced``, its class must be a key of `by_class`.
    by_class : mapping of str to sequence
        Every class's items in the source's order; the mapping's own order is that in which classes take turns.

    Raises
    ------
    TooFewError
        If there are not enough.
    """
    rng, n = np.random.default_rng(request.seed), request.n_images
    own = by_class.get(request.class_name or "", ())
    match request.images_from:
        case "class":
            return _draw(own, n, request, rng)
        case "all":
            return _draw(interleaved(list(by_class.values())), n, request, rng)
        case "balanced":
            rest = interleaved([items for name, items in by_class.items() if name != request.class_name])
            if (n + 1) // 2 > len(own) or n // 2 > len(rest):
                raise TooFewError(min(2 * len(own), 2 * len(rest) + 1))
            return interleaved([_draw(own, (n + 1) // 2, request, rng), _draw(rest, n // 2, request, rng)])
        case _:
            assert_never(request.images_from)


def interleaved(groups: Sequence[Sequence[Item]]) -> list[Item]:
    """Return all items, the groups taking turns; a group that is used up is passed over."""
    nothing = object()
    turns = itertools.chain.from_iterable(itertools.zip_longest(*groups, fillvalue=nothing))
    return [item for item in turns if item is not nothing]  # type: ignore[misc]


def _draw(pool: Sequence[Item], n: int, request: ImageRequest, rng: np.random.Generator) -> list[Item]:
    if n > len(pool):
        raise TooFewError(len(pool))
    match request.select:
        case "first":
            return list(pool[:n])
        case "random":
            return [pool[index] for index in sorted(rng.choice(len(pool), n, replace=False))]
        case _:
            assert_never(request.select)
