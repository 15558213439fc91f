"""scikit-learn's handwritten digits: 1,797 scans of 8 x 8 pixels (UCI, 1998) that are part of the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from pipeline.decoding import png
from pipeline.sources.base import Candidate, LocalSource

GREY_STEP = 15  # the scans have 17 grey levels, 0 to 16; an integer step per level represents them exactly in 8 bits


def scans() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all scans and their digits.

    Returns
    -------
    images : ndarray of shape (n_scans, 8, 8), dtype uint8
        Grey levels from 0 (paper) to 240 (ink).
    digits : ndarray of shape (n_scans,), dtype int64
        Digit on each scan, 0 to 9.
    """
    bunch = load_digits()
    return (bunch.images * GREY_STEP).astype(np.uint8), bunch.target.astype(np.int64)


class DigitsSource(LocalSource):
    """The classes "0" to "9", each in the order of the data set."""

    name = "digits"

    def __str__(self) -> str:
        """Return the name of the source in messages."""
        return "scikit-learn's digits"

    def by_class(self) -> Mapping[str, Sequence[Candidate]]:
        """Return the scans of each digit."""
        images, digits = scans()
        return {
            str(digit): [
                Candidate(f"{digit}/{index:04d}", partial(png, images[index]))
                for index in np.flatnonzero(digits == digit)
            ]
            for digit in range(10)
        }
