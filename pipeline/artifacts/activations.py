"""The activation maps of a layer, and the class scores of the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from pipeline.arrays import BoolArray, FloatArray
from pipeline.artifacts.base import Artifact, save_array
from pipeline.artifacts.workspace import Workspace


@dataclass(frozen=True)
class Activations(Artifact):
    """The maps of one layer for all images, and the class score of each image.

    Attributes
    ----------
    maps : ndarray of shape (n_channels, n_images, height, width)
        float32; memory-mapped if the artifact was loaded, because the maps can be larger than memory.
    class_score : ndarray of shape (n_images,)
        float64; the score that ``target`` selects. By default the logit of the target class, unbounded.
    """

    maps: FloatArray
    class_score: FloatArray

    name = "activations"
    MAPS = "maps.npy"
    CLASS_SCORE = "class_score.npy"

    def means(self) -> FloatArray:
        """Return each channel's mean activation for each image, (n_channels, n_images), float64."""
        return np.stack([np.asarray(maps, dtype=np.float64).mean(axis=(1, 2)) for maps in self.maps])

    def varying(self) -> BoolArray:
        """Return whether each channel varies over the images, (n_channels,), bool. If it does not, it is dead."""
        return np.array([bool((maps != maps[:1]).any()) for maps in self.maps])

    @property
    def description(self) -> str:
        """Number of channels and the size of their maps."""
        return f"{self.maps.shape[0]} channels of {self.maps.shape[2]} x {self.maps.shape[3]}"

    def save(self, folder: Path) -> Self:
        """Write two ``.npy`` files; maps that are mapped from a file in this folder are only flushed to the disk."""
        if isinstance(self.maps, np.memmap) and Path(str(self.maps.filename)) == (folder / self.MAPS).absolute():
            self.maps.flush()
        elif isinstance(self.maps, np.memmap):  # maps that may be larger than memory
            Workspace(folder).empty(self.MAPS, self.maps.shape)[:] = self.maps
        else:
            save_array(folder / self.MAPS, self.maps)
        save_array(folder / self.CLASS_SCORE, self.class_score)
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map the maps in `folder` read-only, and read the class scores."""
        return cls(np.load(folder / cls.MAPS, mmap_mode="r"), np.load(folder / cls.CLASS_SCORE))
