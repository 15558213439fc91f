"""The images of a ranking as pictures, which figures show beside activation maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.figures.cam import SizedImage
from pipeline.figures.pictures import Picture, Pictures
from pipeline.networks.inputs import Inputs

MAX_BYTES = 2**26  # of all pictures together, 64 MiB; they are reduced until they fit
N_AT_ONCE = 64


class SavedPictures(Pictures, Protocol):
    """Pictures that can be saved to a folder."""

    def save(self, folder: Path) -> None:
        """Write the pictures of all images."""
        ...


@dataclass(frozen=True)
class KeptPictures:
    """The pictures of all images; see `pipeline.figures.pictures.Pictures`.

    Attributes
    ----------
    pictures : ndarray of shape (n_images, height, width) or (n_images, height, width, 3)
        The network's inputs before their normalisation, uint8. Large ones are reduced.
    """

    pictures: NDArray[np.uint8]

    FILE = "pictures.npz"

    def seen(self, indices: Sequence[int]) -> list[Picture]:
        """Return some images as the network sees them."""
        return [self.pictures[index] for index in indices]

    def originals(self, indices: Sequence[int]) -> list[SizedImage]:
        """Return some images as the network sees them, because their original sizes are not known."""
        height, width = self.pictures.shape[1:3]
        box = (0.0, 0.0, float(width), float(height))
        return [SizedImage(self.pictures[index], str(index), box) for index in indices]

    def save(self, folder: Path) -> None:
        """Write the pictures, compressed."""
        np.savez_compressed(folder / self.FILE, pictures=self.pictures)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        with np.load(folder / cls.FILE) as file:
            return cls(file["pictures"])


@dataclass(frozen=True)
class PixelScale:
    """The normalisation of the network's inputs: ``(pixel - mean) / std`` for pixels in [0, 1].

    Attributes
    ----------
    mean, std : tuple of float
        One value for each channel of the input, or one for all.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_pixels(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs as pixels, clipped to [0, 1], in the same shape, (n_images, channels, height, width)."""
        mean, std = self._values(inputs)
        return (inputs.float() * std + mean).nan_to_num().clamp(0, 1)

    def to_inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels in [0, 1] as inputs, in the same shape."""
        mean, std = self._values(pixels)
        return (pixels - mean) / std

    def _values(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [torch.tensor(each, device=images.device).view(-1, 1, 1) for each in (self.mean, self.std)]


def scale_of(inputs: Inputs, normalization: tuple[tuple[float, ...], tuple[float, ...]] | None) -> PixelScale:
    """Return the normalisation of the inputs of a network.

    Parameters
    ----------
    inputs : Inputs
        The inputs.
    normalization : tuple of (mean, std) or None
        The normalisation, if it is known. Otherwise, the range of the values is stretched to that of pixels, unless all
        values are in [0, 1].
    """
    n_channels = _as_images(inputs.read(slice(0, 1))).shape[1]
    if normalization is not None and len(normalization[0]) in (1, n_channels):
        return PixelScale(*normalization)
    low, high = _range(inputs)
    width = max(high - low, 1e-12)
    return PixelScale((-low / width,), (1 / width,))


def pictures_of(inputs: Inputs, scale: PixelScale) -> KeptPictures:
    """Return the inputs of a network as pictures; inputs other than images, such as vectors, are drawn as grey rows."""
    found = []
    for start in range(0, len(inputs), N_AT_ONCE):
        pixels = scale.to_pixels(_as_images(inputs.read(slice(start, start + N_AT_ONCE)).detach().cpu()))
        if pixels.shape[1] not in (1, 3):
            pixels = pixels.mean(dim=1, keepdim=True)
        side = _side(pixels, len(inputs))
        if max(pixels.shape[2:]) > side:
            factor = side / max(pixels.shape[2:])
            size = [max(1, round(length * factor)) for length in pixels.shape[2:]]
            pixels = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True).clamp(0, 1)
        found.append((pixels * 255).round().byte())
    pictures = torch.cat(found).permute(0, 2, 3, 1).contiguous().numpy()
    return KeptPictures(pictures[..., 0] if pictures.shape[-1] == 1 else pictures)


def _range(inputs: Inputs) -> tuple[float, float]:
    """Return the smallest and the largest value of the inputs; (0, 1) if all are within."""
    low, high = 0.0, 1.0
    for start in range(0, len(inputs), N_AT_ONCE):
        part = inputs.read(slice(start, start + N_AT_ONCE)).detach()
        values = part[torch.isfinite(part)].float()
        if len(values):
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def _as_images(inputs: torch.Tensor) -> torch.Tensor:
    """Return inputs of any shape as images, (n_images, channels, height, width)."""
    match inputs.ndim:
        case 2:
            return inputs[:, None, None, :]
        case 3:
            return inputs[:, None]
        case 4:
            return inputs
        case _:
            return inputs.flatten(3)


def _side(pixels: torch.Tensor, n_images: int) -> int:
    """Return the longest side with which all pictures fit into `MAX_BYTES`."""
    longest = max(pixels.shape[2:])
    n_bytes = n_images * pixels[0].numel()
    return longest if n_bytes <= MAX_BYTES else max(8, int(longest * (MAX_BYTES / n_bytes) ** 0.5))
