"""The predictors of all channels, read a few channels at a time because they may be larger than the memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.arrays import Float64Array, FloatArray, Int64Array
from pipeline.errors import InputError

MIN_IMAGES = 5  # with fewer, neither smoother can be fitted


class Predictors:
    """Some channels, images and leading components of an array, of which nothing is copied until it is read.

    Parameters
    ----------
    values : ndarray of shape (n_all_channels, n_all_images, n_all_components)
        The array, which may be memory-mapped.
    channels, images : ndarray of int64 or None
        The indices of the channels and images; None for all.
    n_components : int or None
        The number of leading components; None for all.

    Attributes
    ----------
    shape : tuple of 3 ints
        Numbers of channels, images and components.
    """

    def __init__(
        self,
        values: FloatArray,
        channels: Int64Array | None = None,
        images: Int64Array | None = None,
        n_components: int | None = None,
    ) -> None:
        self._values, self._channels, self._images, self._n_components = values, channels, images, n_components
        n_channels, n_images, n_all = values.shape
        self.shape: tuple[int, int, int] = (
            n_channels if channels is None else len(channels),
            n_images if images is None else len(images),
            n_all if n_components is None else n_components,
        )

    def __len__(self) -> int:
        """Return the number of channels."""
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of them as an array."""
        return np.array(self.read(0, len(self)), dtype=dtype)

    @classmethod
    def of(cls, predictors: ArrayLike | Predictors) -> Predictors:
        """Return predictors that are given as an array of shape (n_channels, n_images, n_components), or as they are.

        Raises
        ------
        InputError
            If the shape is another one, or there are fewer than 5 images.
        """
        if isinstance(predictors, Predictors):
            return predictors
        values = np.asarray(predictors, dtype=np.float64)
        if values.ndim != 3 or values.shape[2] < 1:
            raise InputError(
                f"predictors must have the shape (n_channels, n_images, n_components); got {values.shape}."
            )
        if values.shape[1] < MIN_IMAGES:
            raise InputError(f"n_images must be at least {MIN_IMAGES}; got {values.shape[1]}.")
        return cls(values)

    def read(self, first: int, last: int) -> Float64Array:
        """Return the predictors of channels `first` to `last` - 1, (n_channels, n_images, n_components).

        Raises
        ------
        InputError
            If a value is not finite.
        """
        values = self._values[first:last] if self._channels is None else self._values[self._channels[first:last]]
        if self._images is not None:
            values = values[:, self._images]
        found: Float64Array = np.asarray(values[:, :, : self.shape[2]], dtype=np.float64)
        if not np.isfinite(found).all():
            raise InputError("predictors must be finite; got NaN or infinity. Check the activations.")
        return found

    def of_channels(self, channels: Int64Array) -> Predictors:
        """Return those of some channels, by their indices."""
        chosen = channels if self._channels is None else self._channels[channels]
        return Predictors(self._values, chosen, self._images, self._n_components)

    def of_images(self, images: Int64Array) -> Predictors:
        """Return those of some images, by their indices."""
        chosen = images if self._images is None else self._images[images]
        return Predictors(self._values, self._channels, chosen, self._n_components)

    def leading(self, n_components: int) -> Predictors:
        """Return the leading components."""
        return Predictors(self._values, self._channels, self._images, n_components)


class Transforms:
    """Arrays to which the transforms of channels are written, a few channels at a time.

    Parameters
    ----------
    phi : ndarray of shape (n_channels, n_images, n_components)
        For the transforms of the predictors; may be memory-mapped.
    theta : ndarray of shape (n_channels, n_images)
        For those of the response.
    channels : ndarray of int64 or None
        The rows of the channels in these arrays; None if they are all rows, in order. Other rows are not changed.
    """

    def __init__(self, phi: FloatArray, theta: FloatArray, channels: Int64Array | None = None) -> None:
        self.phi, self.theta, self._channels = phi, theta, channels

    @classmethod
    def in_memory(cls, n_channels: int, n_images: int, n_components: int) -> Transforms:
        """Return new arrays of zeros."""
        return cls(np.zeros((n_channels, n_images, n_components)), np.zeros((n_channels, n_images)))

    def put(self, first: int, phi: FloatArray, theta: FloatArray) -> None:
        """Write the transforms of channels from `first` on."""
        rows = slice(first, first + len(phi))
        chosen = rows if self._channels is None else self._channels[rows]
        self.phi[chosen], self.theta[chosen] = phi, theta
