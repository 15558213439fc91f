"""scikit-learn's handwritten digits: 1,797 scans of 8 x 8 pixels (UCI, 1998) that are part of the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.arrays import Float64Array
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
    table = _table()
    return (table[:, :-1].reshape(-1, 8, 8) * GREY_STEP).astype(np.uint8), table[:, -1].astype(np.int64)


def _table() -> Float64Array:
    """Return the grey levels of each scan, row by row from 0 to 16, followed by its digit, (n_scans, 65).

    They are read from the file in scikit-learn that `load_digits` reads, because importing scikit-learn, with the parts
    of SciPy that it needs, takes most of a second. `load_digits` is used if a version keeps them elsewhere.
    """
    spec = find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    data, digits = load_digits(return_X_y=True)
    return np.column_stack([data, digits])


class DigitsSource(LocalSource):
    """The classes "0" to "9", each in the order of the data set."""

    name = "digits"

    def __str__(self) -> str:
        """Return the name of the source in messages."""
        return "scikit-learn's digits"

    def class_names(self) -> tuple[str, ...]:
        """Return the digits, without reading the scans."""
        return tuple(map(str, range(10)))

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
