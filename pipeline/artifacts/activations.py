"""The activation maps of a layer, and the class scores of the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.arrays import BoolArray, FloatArray
from pipeline.artifacts.base import Artifact, own_files, save_array
from pipeline.artifacts.workspace import release

VALUES = 2**22  # of a channel that are converted to float64 at a time


@dataclass(frozen=True)
class Activations(Artifact):
    """The maps of one layer for all images, and the class score of each image.

    Attributes
    ----------
    maps : ndarray of shape (n_channels, n_images, height, width)
        float32, or float16 with ``activate.dtype=float16``; memory-mapped if the artifact was loaded, because the maps
        can be larger than memory.
    class_score : ndarray of shape (n_images,)
        float64; the score that ``target`` selects. By default the logit of the target class, unbounded.
    rounding : ndarray of shape (n_channels,) or None
        float64; the error of float16: the root mean square over images and pixels, as a share of each pixel's standard
        deviation over the images. None for float32.
    """

    maps: FloatArray
    class_score: FloatArray
    rounding: FloatArray | None = None

    name = "activations"
    MAPS = "maps.npy"
    CLASS_SCORE = "class_score.npy"
    ROUNDING = "rounding.npy"

    def means(self) -> FloatArray:
        """Return each channel's mean activation for each image, (n_channels, n_images), float64."""
        means = np.empty(self.maps.shape[:2])
        step = max(1, VALUES // self.maps[0, 0].size)
        for channel, maps in zip(means, self.maps, strict=True):
            for start in range(0, len(channel), step):  # all maps of a channel may be too large for memory
                block = slice(start, start + step)
                channel[block] = np.asarray(maps[block], dtype=np.float64).mean(axis=(1, 2))
            release(self.maps)
        return means

    def varying(self) -> BoolArray:
        """Return whether each channel varies over the images, (n_channels,), bool. If it does not, it is dead."""
        return np.array([bool((maps != maps[:1]).any()) for maps in self.maps])

    @property
    def description(self) -> str:
        """Number of channels and the size of their maps; for float16, the largest error of a channel."""
        words = f"{self.maps.shape[0]} channels of {self.maps.shape[2]} x {self.maps.shape[3]}"
        if self.rounding is not None:
            words += f", float16 with errors of up to {self.rounding.max():.2%} of a standard deviation"
        return words

    def save(self, folder: Path) -> Self:
        """Write a ``.npy`` file for each attribute; maps that are mapped from a file there are not written again."""
        save_array(folder / self.MAPS, self.maps)
        save_array(folder / self.CLASS_SCORE, self.class_score)
        if self.rounding is not None:
            save_array(folder / self.ROUNDING, self.rounding)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map the maps in `folder` read-only, and read the class scores."""
        rounding = np.load(folder / cls.ROUNDING) if cls.ROUNDING in own_files(folder) else None
        return cls(np.load(folder / cls.MAPS, mmap_mode="r"), np.load(folder / cls.CLASS_SCORE), rounding)
