"""scikit-learn's handwritten digits: 1,797 real scans of 8 x 8 pixels (UCI, 1998), embedded in the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from pipeline.decoding import png
from pipeline.sources.base import Candidate, LocalSource

GREY_STEP = 15  # the scans have 17 levels of grey, 0 to 16; a whole step a level keeps them exact in 8 bits


def scans() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the scans, (n_scans, height, width) in 0 to 240, and the digit on each, (n_scans,)."""
    bunch = load_digits()
    return (bunch.images * GREY_STEP).astype(np.uint8), bunch.target.astype(np.int64)


class DigitsSource(LocalSource):
    """The digits "0" to "9", each in the data set's own order."""

    name = "digits"

    def __str__(self) -> str:
        """Return how messages call this source."""
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
