"""The images of a ranking as pictures: from files, or from any other object with the same methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.artifacts import ImageSet
from pipeline.figures.cam import SizedImage
from pipeline.networks.inputs import Preprocessing

Picture = NDArray[np.uint8]
N_KEPT = 128  # number of images that are kept in memory as pictures


class Pictures(Protocol):
    """The images of a ranking as pictures: (height, width) if grey, else (height, width, 3), uint8."""

    def seen(self, indices: Sequence[int]) -> list[Picture]:
        """Return some images as the network sees them: resized and cropped, before the normalisation."""
        ...

    def originals(self, indices: Sequence[int]) -> list[SizedImage]:
        """Return some images at their original sizes."""
        ...


@dataclass(frozen=True)
class FilePictures:
    """The pictures of images in files; see `Pictures`.

    Attributes
    ----------
    images : ImageSet
        The images.
    preprocessing : Preprocessing
        How images become the network's input.
    """

    images: ImageSet
    preprocessing: Preprocessing
    _seen: dict[int, Picture] = field(default_factory=dict, init=False, repr=False, compare=False)

    def inputs(self, indices: Sequence[int]) -> torch.Tensor:
        """Return some images as the network's input, (n_images, channels, height, width)."""
        return self.preprocessing.load([self._path(index) for index in indices])

    def to_pixels(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs before their normalisation, clipped to [0, 1], in the same shape."""
        return self.preprocessing.to_pixels(inputs)

    def to_inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels in [0, 1] with the normalisation, in the same shape."""
        mean, std = (each.to(pixels.device) for each in self.preprocessing.normalization)
        return (pixels - mean) / std

    def seen(self, indices: Sequence[int]) -> list[Picture]:
        """Return some images as the network sees them. The last `N_KEPT` are not decoded again."""
        missing = [index for index in dict.fromkeys(indices) if index not in self._seen]
        found = dict(zip(missing, self.preprocessing.pictures([self._path(index) for index in missing]), strict=True))
        found |= {index: self._seen[index] for index in indices if index not in found}
        self._seen.update(found)
        while len(self._seen) > N_KEPT:
            del self._seen[next(iter(self._seen))]
        return [found[index] for index in indices]

    def originals(self, indices: Sequence[int]) -> list[SizedImage]:
        """Return some images at their original sizes."""
        found = []
        for index in indices:
            picture = np.asarray(self.preprocessing.open(self._path(index)))
            height, width = picture.shape[:2]
            box = self.preprocessing.visible_box(width, height)
            found.append(SizedImage(picture, self.images.records[index].id, box))
        return found

    def _path(self, index: int) -> Path:
        return self.images.folder / self.images.records[index].file
