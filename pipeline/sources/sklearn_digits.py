"""scikit-learn's handwritten digits: 1,797 scans of 8 x 8 pixels (UCI, 1998) that are part of the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.decoding import png
from pipeline.kept_values import kept_value
from pipeline.sources.base import Candidate, LocalSource
from pipeline.sources.choose import ImageRequest

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
    from sklearn.datasets import load_digits  # imported here because it takes half a second

    bunch = load_digits()
    return (bunch.images * GREY_STEP).astype(np.uint8), bunch.target.astype(np.int64)


class DigitsSource(LocalSource):
    """The classes "0" to "9", each in the order of the data set."""

    name = "digits"

    def __str__(self) -> str:
        """Return the name of the source in messages."""
        return "scikit-learn's digits"

    def class_names(self) -> tuple[str, ...]:
        """Return the digits, without reading the scans."""
        return tuple(map(str, range(10)))

    def identity(self, request: ImageRequest) -> dict[str, object]:
        """Return all that determines the image set, for its key; see `LocalSource.identity`.

        It is kept, because the scans are part of scikit-learn, which takes half a second to import.
        """
        found = super().identity
        packages = ("sklearn", "numpy", "PIL")
        return dict(kept_value("scikit-learn's digits", asdict(request), packages, lambda: found(request)))

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
