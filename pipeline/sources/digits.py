"""scikit-learn's handwritten digits: 1,797 real scans of 8 x 8 pixels (UCI, 1998), embedded in the library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.errors import InputError, listed
from pipeline.sources.base import Candidate, Source

GREY_STEP = 15  # the scans have 17 levels of grey, 0 to 16; a whole step a level keeps them exact in 8 bits


def scans() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the scans, (n_scans, height, width) in 0 to 240, and the digit on each, (n_scans,)."""
    bunch = load_digits()
    return (bunch.images * GREY_STEP).astype(np.uint8), bunch.target.astype(np.int64)


class DigitsSource(Source):
    """The digits "0" to "9", each in the data set's own order."""

    name = "digits"

    def __str__(self) -> str:
        """Return how messages call this source."""
        return "scikit-learn's digits"

    def class_names(self) -> tuple[str, ...]:
        """Return "0" to "9"."""
        return tuple(str(digit) for digit in range(10))

    def candidates(self, class_name: str | None) -> Sequence[Candidate]:
        """Return the scans of one digit."""
        if class_name not in self.class_names():
            raise InputError(
                f"class_name must be one of {listed(self.class_names(), 10)}; got '{class_name}' ({self})."
            )
        images, digits = scans()
        return [
            Candidate(f"{class_name}/{index:04d}", ".png", partial(_png, images[index]))
            for index in np.flatnonzero(digits == int(class_name))
        ]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
