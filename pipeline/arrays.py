"""Types of NumPy arrays, for annotations.

The shape of an array is given in the docstring of what takes or returns it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]  # of any precision
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.integer[Any]]  # of any size
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
