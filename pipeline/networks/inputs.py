"""From image files to the network's input, and back to pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.arrays import Int64Array
from pipeline.decoding import ImageError, decode
from pipeline.errors import InputError
from pipeline.networks.crops import Box
from pipeline.networks.decoded import ahead, once
from pipeline.networks.libraries import library
from pipeline.settings import ModelSettings
from pipeline.threads import in_threads

ToInput = Callable[[Image.Image], torch.Tensor]

# Largest number of values of a layer's output for a batch that is ablated or attributed to, 64 MiB in float32.
VALUES_IN_BATCH = 2**24
MIN_BATCH_SIZE = 3  # smallest batch size with which every batch has at least 2 images, see `batch_slices`


@dataclass(frozen=True)
class Preprocessing:
    """How decoded images become the network's input.

    Parameters
    ----------
    model : ModelSettings
        Settings of the network. Only the number of input channels and the transform are used; ``kind=weights`` stands
        for the transform that belongs to the published weights.
    """

    model: ModelSettings

    @cached_property
    def transform(self) -> ToInput:
        """The function from a decoded image to the network's input, (channels, height, width)."""
        from torchvision import transforms  # imported here because it takes a second, see torchvision_models.py

        transform = self.model.transform
        if transform.kind == "weights":
            return library(self.model).preset(self.model)
        # ToTensor divides by 255. Version 2's ToDtype multiplies by 1/255, which differs in the last digit and
        # eventually in the third digit of some scores (docs/decisions/0003).
        normalize = transforms.Normalize(list(transform.mean), list(transform.std))
        return cast(ToInput, transforms.Compose([self._resized, transforms.ToTensor(), normalize]))

    @cached_property
    def _resized(self) -> Callable[[Image.Image], Image.Image]:
        """The function from a decoded image to one of the size of the network's input, without published weights."""
        from torchvision import transforms

        transform = self.model.transform
        if transform.kind == "none":
            return lambda image: image
        return cast("Callable[[Image.Image], Image.Image]", transforms.Resize((transform.size, transform.size)))

    @cached_property
    def normalization(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, both of shape (channels, 1, 1): the input is (pixel - mean) / deviation."""
        is_published = self.model.transform.kind == "weights"
        used = library(self.model).preset(self.model) if is_published else self.model.transform
        return torch.tensor(used.mean).view(-1, 1, 1), torch.tensor(used.std).view(-1, 1, 1)

    def open(self, path: Path) -> Image.Image:
        """Return the decoded image: grey for networks with one input channel, otherwise RGB. It must not be changed.

        Raises
        ------
        InputError
            If the file cannot be decoded.
        """
        return once(
            (path, self._mode), lambda: self._decode(path), lambda image: len(self._mode) * math.prod(image.size)
        )

    @property
    def _mode(self) -> str:
        return "L" if self.model.input_size[0] == 1 else "RGB"

    def _decode(self, path: Path) -> Image.Image:
        try:
            return decode(path.read_bytes()).image.convert(self._mode)
        except ImageError as error:  # the file has changed since it was downloaded and checked
            raise InputError(
                f"every image in the store must be decodable; got {path} ({error}). Remove the folder that contains it."
            ) from error

    def load(self, paths: Sequence[Path]) -> torch.Tensor:
        """Return the images as one tensor, (n_images, channels, height, width).

        Raises
        ------
        InputError
            If the images differ in size after the transform, or one of them cannot be decoded.
        """
        transform, model = self.transform, repr(self.model)

        def read(path: Path) -> torch.Tensor:
            return once((path, model), lambda: transform(self._decode(path)), lambda image: image.nbytes)

        inputs = list(in_threads(read, paths))
        sizes = {tuple(image.shape[1:]) for image in inputs}
        if len(sizes) > 1:
            found = ", ".join(f"{height} x {width}" for height, width in sorted(sizes)[:3])
            raise InputError(
                f"all images must have the same size with model.transform.kind=none; got {found} pixels. "
                "Set model.transform.kind=resize, or use images of one size."
            )
        return torch.stack(inputs)

    def to_pixels(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the network's input before its normalisation, clipped to [0, 1], in the same shape."""
        mean, std = self.normalization
        return (inputs * std.to(inputs.device) + mean.to(inputs.device)).clamp(0, 1)

    def to_pictures(self, inputs: torch.Tensor) -> list[NDArray[np.uint8]]:
        """Return the network's input as uint8 pictures: (height, width) if grey, else (height, width, 3)."""
        pictures = (self.to_pixels(inputs.cpu()) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        return [picture[..., 0] if picture.shape[-1] == 1 else picture for picture in pictures]

    def pictures(self, paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
        """Return images as the network sees them: what `to_pictures` makes of the result of `load`.

        Without the transform of published weights, the pictures are the resized images themselves, because their pixels
        are whole numbers: the normalisation and its inverse would change nothing.
        """
        if self.model.transform.kind == "weights":
            return self.to_pictures(self.load(paths)) if paths else []
        return [np.asarray(self._resized(self.open(path))) for path in paths]

    def visible_box(self, width: int, height: int) -> Box:
        """Return the part of an image that the network receives: left, top, right, bottom, in pixels.

        It is the whole image, except with the transform of published weights, which may crop it.

        Parameters
        ----------
        width, height : int
            Size of the image in pixels.
        """
        if self.model.transform.kind != "weights":
            return 0.0, 0.0, float(width), float(height)
        return library(self.model).visible_box(self.model, width, height)


class Inputs(Protocol):
    """A sequence of images as inputs of a network, read in batches."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def read(self, images: slice) -> torch.Tensor:
        """Return the inputs for the given images, (n_images, ...), on the network's device."""
        ...


@dataclass(frozen=True)
class FileInputs:
    """Image files as inputs of a network; see `Inputs`.

    Parameters
    ----------
    paths : sequence of Path
        The files, in order.
    preprocessing : Preprocessing
        From files to inputs.
    device : torch.device
        Device of the inputs.
    """

    paths: Sequence[Path]
    preprocessing: Preprocessing
    device: torch.device

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def read(self, images: slice) -> torch.Tensor:
        """Return the inputs for the given images, (n_images, channels, height, width)."""
        return on_device(self.preprocessing.load(self.paths[images]), self.device)


@dataclass(frozen=True)
class TensorInputs:
    """Tensors in memory as inputs of a network; see `Inputs`.

    Parameters
    ----------
    parts : sequence of tensors of shape (n_images, ...)
        The images, in order, in one tensor or in several. Only their first axes may differ.
    device : torch.device, optional
        Device of the inputs; that of the tensors by default.
    """

    parts: Sequence[torch.Tensor]
    device: torch.device | None = None

    @cached_property
    def edges(self) -> list[int]:
        """The index of the first image of each part, and the number of images."""
        return [0, *itertools.accumulate(len(part) for part in self.parts)]

    def __len__(self) -> int:
        """Return the number of images."""
        return self.edges[-1]

    def read(self, images: slice) -> torch.Tensor:
        """Return the inputs for the given images, (n_images, ...)."""
        start, stop, step = images.indices(len(self))
        if step != 1:
            raise ValueError(f"images must be consecutive; got a step of {step}.")
        found = [
            part[max(start - first, 0) : max(stop - first, 0)]
            for part, first in zip(self.parts, self.edges, strict=False)  # the last edge is the number of images
            if first < stop and first + len(part) > start
        ]
        joined = found[0] if len(found) == 1 else torch.cat(found) if found else self.parts[0][:0]
        return joined if self.device is None else on_device(joined, self.device)


def on_device(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return images on a device. To a GPU, they are copied from pinned memory, while the program goes on."""
    if device.type == "cuda" and images.device.type == "cpu":
        return images.pin_memory().to(device, non_blocking=True)
    return images.to(device)


@dataclass(frozen=True)
class ChosenInputs:
    """Some of the images of other inputs; see `Inputs`.

    Parameters
    ----------
    inputs : Inputs
        All images.
    chosen : ndarray of shape (n_images,)
        Indices of the images that are chosen, in order.
    """

    inputs: Inputs
    chosen: Int64Array

    def __len__(self) -> int:
        """Return the number of images that are chosen."""
        return len(self.chosen)

    def read(self, images: slice) -> torch.Tensor:
        """Return the inputs for the given images, (n_images, ...)."""
        return torch.cat([self.inputs.read(slice(image, image + 1)) for image in self.chosen[images].tolist()])


def batches(inputs: Inputs, batch_size: int, part: slice | None = None) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield the inputs in batches; the next batch is read, in another thread, while the current one is used.

    Parameters
    ----------
    inputs : Inputs
        The images.
    batch_size : int
        Largest number of images in a batch, at least 1; see `batch_slices`.
    part : slice, optional
        Yield only the batches that begin in this part of the images.

    Yields
    ------
    batch : slice
        Indices of the images in the batch.
    tensor : tensor of shape (n_images_in_batch, ...)
        Their inputs.
    """
    slices = batch_slices(len(inputs), batch_size)
    yield from ahead(inputs.read, [each for each in slices if part is None or part.start <= each.start < part.stop])


def bounded_batch_size(batch_size: int, n_values: int) -> int:
    """Return the number of images in a batch: at most `batch_size`, and fewer where a layer is large.

    Parameters
    ----------
    batch_size : int
        Largest number of images in a batch, at least 1.
    n_values : int
        Number of values of the layer's output for one image. Several tensors of this size are in memory for each image.
    """
    return min(batch_size, max(MIN_BATCH_SIZE, VALUES_IN_BATCH // n_values))


def batch_slices(n_images: int, batch_size: int) -> list[slice]:
    """Split the images into the smallest number of batches of at most `batch_size`, all of nearly the same size.

    Other kernels would compute a small last batch, with other last digits (up to 3e-6), to which ACE is sensitive: see
    docs/decisions/0003-last-digits-matter.md.

    Parameters
    ----------
    n_images : int
        Number of images.
    batch_size : int
        Largest number of images in a batch, at least 1.
    """
    edges = np.linspace(0, n_images, -(-n_images // batch_size) + 1).round().astype(int)
    return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(edges)]
