"""Standardise and reduce one channel after another, by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from pipeline.errors import InputError

FloatArray = NDArray[np.floating[Any]]


def check_n_components(n_components: int, n_images: int, height: int, width: int) -> None:
    """Raise `InputError` where a channel of `height` x `width` pixels over `n_images` has fewer components."""
    most = min(n_images, height * width)
    if n_components > most:
        raise InputError(
            f"n_components must be in [1, {most}]; got {n_components} "
            f"({n_images} images, maps of {height} x {width} pixels). Lower it, or choose a layer with larger maps."
        )


def reduce_channels(
    maps: FloatArray, n_components: int, progress: Callable[[int, int], None]
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Return every channel's images in its leading principal components.

    Each pixel is standardised over the images (mean 0, standard deviation 1 with ddof 0; one that never varies
    becomes 0), then ``sklearn.decomposition.PCA(svd_solver="full")`` reduces the pixels.

    Parameters
    ----------
    maps : ndarray of shape (n_channels, n_images, height, width)
        Activation maps; may be memory-mapped.
    n_components : int
        At most ``min(n_images, height * width)``.
    progress : callable
        Called with the channels done and all channels.

    Returns
    -------
    projections : ndarray of shape (n_channels, n_images, n_components)
        float64; 0 for a dead channel.
    explained_variance_ratio : ndarray of shape (n_channels, n_components)
        In [0, 1]; 0 for a dead channel.
    dead : ndarray of shape (n_channels,)
        Whether no pixel of the channel ever varies.

    Raises
    ------
    InputError
        If `n_components` is too large, or if an activation is not finite.
    """
    n_channels, n_images, height, width = maps.shape
    check_n_components(n_components, n_images, height, width)
    projections = np.zeros((n_channels, n_images, n_components))
    ratios = np.zeros((n_channels, n_components))
    dead = np.zeros(n_channels, dtype=bool)
    for channel in range(n_channels):
        pixels = np.asarray(maps[channel], dtype=np.float64).reshape(n_images, -1)
        if not np.isfinite(pixels).all():
            raise InputError(f"activations must be finite; got NaN or infinity (channel {channel}). Check the weights.")
        dead[channel] = not np.ptp(pixels, axis=0).any()
        if not dead[channel]:
            pca = PCA(n_components, svd_solver="full")
            standardised = StandardScaler().fit_transform(pixels)
            # Past the rank, components are rounding noise of 1e-16, which ACE, blind to scale, would fit: make them 0.
            rounding = max(pixels.shape) * np.finfo(np.float64).eps
            projected = pca.fit_transform(standardised)
            is_real = pca.singular_values_ > rounding * pca.singular_values_[0]
            projections[channel] = projected * is_real
            ratios[channel] = pca.explained_variance_ratio_ * is_real
        progress(channel + 1, n_channels)
    return projections, ratios, dead
