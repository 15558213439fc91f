"""Groups of images that are copies of one another, which random draws must not separate.

A fold with one copy and a fit to the others would be evaluated at an image that the fit has seen, halves that share an
image would agree because of it, and a permutation that gives copies different class scores describes data that cannot
occur. Random draws therefore take whole groups. Without copies, every image is a group of its own, and the draws are
the same as if there were no groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from pipeline.arrays import Int64Array


@dataclass(frozen=True)
class Groups:
    """A partition of images into groups of copies.

    Parameters
    ----------
    members : tuple of ndarray of int64
        Indices of the images of each group, in ascending order; every image is in exactly one group.
    """

    members: tuple[Int64Array, ...]

    @classmethod
    def by_label(cls, labels: ArrayLike) -> Groups:
        """Return the groups of images with the same label, in the order of their first images.

        Parameters
        ----------
        labels : array_like of int, shape (n_images,)
            One label for each image.
        """
        _, first, group = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
        by_group = np.argsort(group, kind="stable").astype(np.int64)
        members = np.split(by_group, np.cumsum(np.bincount(group))[:-1])
        return cls(tuple(members[each] for each in np.argsort(first)))

    @classmethod
    def without_copies(cls, n_images: int) -> Groups:
        """Return `n_images` groups of one image each."""
        return cls(tuple(np.arange(n_images, dtype=np.int64).reshape(-1, 1)))

    def __len__(self) -> int:
        """Return the number of groups, which is the number of different images."""
        return len(self.members)

    @property
    def n_images(self) -> int:
        """The number of images with all copies."""
        return sum(map(len, self.members))

    @property
    def firsts(self) -> Int64Array:
        """The indices of the first image of each group, which are images that differ, in ascending order."""
        return np.array(sorted(each[0] for each in self.members), dtype=np.int64)

    def images(self, groups: Int64Array) -> Int64Array:
        """Return the indices of all images of some groups, group by group."""
        return np.concatenate([self.members[group] for group in groups])

    def permutation(self, rng: np.random.Generator) -> Int64Array:
        """Return a random permutation of the images that exchanges whole groups.

        Only groups of the same size are exchanged, so that a permuted response has the same values as the response. A
        group whose size no other group has keeps its place, which makes a permutation test conservative.

        Returns
        -------
        ndarray of shape (n_images,), dtype int64
            With the permuted response, image i has the response of image ``permutation[i]``.
        """
        drawn = np.empty(self.n_images, dtype=np.int64)
        for same_size in self._by_size:
            drawn[same_size] = same_size[rng.permutation(len(same_size))]
        return drawn

    @cached_property
    def _by_size(self) -> list[Int64Array]:
        """The groups of each size, as arrays of shape (n_groups, size)."""
        sizes = sorted({len(each) for each in self.members})
        return [np.array([each for each in self.members if len(each) == size]) for size in sizes]
