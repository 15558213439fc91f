"""Which images of a source are taken, and in which order. This module knows only names: no files and no pixels.

The order depends on the data alone, so that a larger set begins with nearly the same images as a smaller one:

- ``class``: the images of the class, in the order of the source;
- ``all``: one image of each class in turn (round-robin), each class in the order of the source;
- ``balanced``: images of the class alternate with images of the other classes (these again round-robin). If the number
  is odd, the class has one image more.

With ``select="random"``, as many images are drawn from this pool with the seed, and keep its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, assert_never

import numpy as np

Item = TypeVar("Item")


@dataclass(frozen=True)
class ImageRequest:
    """Which images are requested.

    Attributes
    ----------
    class_name : str or None
        Class of the images. None if the source has no classes, or if images of all classes are requested.
    n_images : int
        Exact number of images.
    select : {"first", "random"}
        Whether to take the first images, or a random sample of them, in the order of the source.
    seed : int
        Seed of the random sample. Not used by ``select="first"``.
    images_from : {"class", "all", "balanced"}
        Whether to take images of the class only, of all classes, or half of them of the class.
    """

    class_name: str | None
    n_images: int
    select: Literal["first", "random"]
    seed: int
    images_from: Literal["class", "all", "balanced"] = "class"


class TooFewError(Exception):
    """There are fewer images than requested.

    Attributes
    ----------
    n_available : int
        Largest number of images that can be requested.
    """

    def __init__(self, n_available: int) -> None:
        super().__init__(n_available)
        self.n_available = n_available


def choose(request: ImageRequest, by_class: Mapping[str, Sequence[Item]]) -> list[Item]:
    """Return the items that `request` describes.

    Parameters
    ----------
    request : ImageRequest
        For ``class`` and ``balanced``, its class must be a key of `by_class`.
    by_class : mapping of str to sequence
        Items of each class in the order of the source. The order of the mapping is that of the round-robin.

    Returns
    -------
    list
        ``request.n_images`` different items.

    Raises
    ------
    TooFewError
        If there are not enough items.
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
    """Return all items, one of each group in turn; groups without further items are skipped."""
    n_rounds = max(map(len, groups), default=0)
    return [group[index] for index in range(n_rounds) for group in groups if index < len(group)]


def _draw(pool: Sequence[Item], n: int, request: ImageRequest, rng: np.random.Generator) -> list[Item]:
    """Return the first `n` items of `pool`, or a random sample of `n` items in the order of `pool`."""
    if n > len(pool):
        raise TooFewError(len(pool))
    match request.select:
        case "first":
            return list(pool[:n])
        case "random":
            return [pool[index] for index in sorted(rng.choice(len(pool), n, replace=False))]
        case _:
            assert_never(request.select)
