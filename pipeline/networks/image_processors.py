"""The image processors of transformers as transforms: their normalisation and their crop are measured.

A processor may resize, crop, rescale and normalise in an order of its own. Its effect is the same for all processors,
and is read from what it makes of images that are known: of black and white ones, the normalisation; of one whose colour
is the position in it, the part that is visible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from pipeline.errors import NetworkError
from pipeline.networks.crops import Box

_PROBED = ((96, 64), (64, 96))  # width and height of images of two shapes
_LONGEST = 512  # of the image whose visible part is measured, in pixels
_NOT_COMPUTED = ("_processor_class", "processor_class", "image_processor_type", "_valid_processor_keys")


@dataclass(frozen=True)
class TransformersPreset:
    """The transform of an image processor; see `pipeline.networks.libraries.WeightsTransform`.

    Attributes
    ----------
    description : mapping
        What determines the transform, for the key of an artifact.
    """

    transform: Callable[[Image.Image], torch.Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_size: list[int]
    description: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return the network's input, (channels, height, width)."""
        return self.transform(image)

    def visible_box(self, width: int, height: int) -> Box:
        """Return the part of an image that the network receives: left, top, right, bottom, in pixels.

        It is measured on an image of the same shape whose red and green are the column and the row. It lies partly
        outside of the image if the processor pads.

        Parameters
        ----------
        width, height : int
            Size of the image in pixels.
        """
        factor = min(1.0, _LONGEST / max(width, height))
        columns, rows = (max(2, round(factor * side)) for side in (width, height))
        pixels = np.zeros((rows, columns, 3), dtype=np.uint8)
        pixels[..., 0] = _ramp(columns)[None, :]
        pixels[..., 1] = _ramp(rows)[:, None]
        found = self(Image.fromarray(pixels))
        values = found * torch.tensor(self.std).view(-1, 1, 1) + torch.tensor(self.mean).view(-1, 1, 1)
        in_columns, in_rows = values.mean(dim=1).double().numpy(), values.mean(dim=2).double().numpy()
        # Some processors exchange red and blue.
        red = int(np.argmax([np.ptp(each) for each in in_columns]))
        left, right = _edges(in_columns[red])
        top, bottom = _edges(in_rows[1])
        return left * width, top * height, right * width, bottom * height


def of_processor(processor: Any, name: str) -> TransformersPreset:
    """Return the transform of an image processor.

    Parameters
    ----------
    processor : object
        An image processor of transformers.
    name : str
        Name of the model, for messages.

    Raises
    ------
    NetworkError
        If images of different shapes become inputs of different shapes, or if the input is not the pixels minus a mean,
        divided by a standard deviation.
    """

    def transform(image: Image.Image) -> torch.Tensor:
        return cast("torch.Tensor", processor(images=image, return_tensors="pt")["pixel_values"][0])

    sizes = {tuple(transform(Image.new("RGB", size)).shape[1:]) for size in _PROBED}
    if len(sizes) > 1:
        found = " and ".join(f"{height} x {width}" for height, width in sorted(sizes))
        raise NetworkError(
            "model.transform.kind must be resize or none if the image processor does not make all images equally "
            f"large; got weights ('{name}', {found} pixels for two images). Set model.transform.kind=resize, size, "
            "mean and std."
        )
    (size,) = sizes
    black, grey, white = (_of_colour(transform, value) for value in (0, 102, 255))
    difference = white - black
    tolerance = 0.01 * float(difference.abs().max())
    is_linear = torch.allclose(grey, black + difference * (102 / 255), rtol=0, atol=tolerance)
    if not is_linear or float(difference.min()) <= 0:
        raise NetworkError(
            "model.transform.kind must be resize or none if the image processor does not only normalise pixels; got "
            f"weights ('{name}'). Set model.transform.kind=resize, size, mean and std."
        )
    std = 1 / difference
    values = {each: value for each, value in processor.to_dict().items() if each not in _NOT_COMPUTED}
    description = {"type": type(processor).__name__, **{n: v for n, v in sorted(values.items()) if v is not None}}
    return TransformersPreset(
        transform, tuple((-black * std).tolist()), tuple(std.tolist()), [int(side) for side in size], description
    )


def plain(size: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> TransformersPreset:
    """Return the transform that resizes images without keeping their aspect ratio, and normalises them.

    Parameters
    ----------
    size : (height, width)
        Size of the input in pixels.
    mean, std : sequence of float
        Mean and standard deviation of each input channel, for pixels in [0, 1].
    """
    from torchvision import transforms  # imported here because it takes a second, see torchvision_models.py

    steps = [transforms.Resize(tuple(size)), transforms.ToTensor(), transforms.Normalize(list(mean), list(std))]
    description = {"type": "resize", "size": list(size), "mean": list(mean), "std": list(std)}
    return TransformersPreset(transforms.Compose(steps), tuple(mean), tuple(std), list(size), description)


def _of_colour(transform: Callable[[Image.Image], torch.Tensor], value: int) -> torch.Tensor:
    """Return the values in the middle of the input for an image of one grey, (n_channels,), float64."""
    found = transform(Image.new("RGB", _PROBED[0], (value,) * 3)).double()
    return found[:, found.shape[1] // 2, found.shape[2] // 2]


def _ramp(n_pixels: int) -> Any:
    """Return the position of the middle of each pixel as a colour: 0 is the first edge, 255 the last."""
    return np.round((np.arange(n_pixels) + 0.5) / n_pixels * 255)


def _edges(values: Any) -> tuple[float, float]:
    """Return the positions of both edges of the visible part, as shares of the image, from the colours in it.

    The colours near the edges may be those of padding or of pixels that were repeated, and are not used.
    """
    places = (np.arange(len(values)) + 0.5) / len(values)
    middle = slice(len(values) // 4, -(len(values) // 4) or None)
    slope, first = np.polyfit(places[middle], values[middle], 1)
    return float(first), float(first + slope)
