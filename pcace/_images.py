"""The images of a ranking: read once, as inputs of the network, in memory or in a temporary file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from pcace._forms import ImageReader, Transform
from pcace._temporary import StoredTensors, is_large
from pipeline.artifacts import ImageRecord, ImageSet, first_copies
from pipeline.errors import InputError
from pipeline.networks.inputs import Inputs as NetworkInputs
from pipeline.networks.inputs import TensorInputs
from pipeline.progress import Progress

N_EXAMPLES = 2  # images in the forward pass that shows the layers, see `pipeline.networks.layout.layout`
N_JOINED = 64  # single images are joined to tensors of this length, so that reading a batch joins a few tensors only


@dataclass(frozen=True)
class Inputs:
    """The images as inputs of the network, all of the same shape.

    Attributes
    ----------
    held : TensorInputs or StoredTensors
        The inputs, in memory or in a temporary file, in the type in which they were given.
    digests : sequence of str
        A digest of the values of each image.
    shape : tuple of int
        Shape of one image.
    device : torch.device
        Device on which the images were given.
    keyword : str or None
        Name of the argument of the network that they are passed as; None for the first argument.
    """

    held: TensorInputs | StoredTensors
    digests: tuple[str, ...]
    shape: tuple[int, ...]
    device: torch.device
    keyword: str | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.held)

    def on(self, device: torch.device | None) -> NetworkInputs:
        """Return the inputs on a device; None: as they are."""
        return TensorInputs(self.held.parts, device) if isinstance(self.held, TensorInputs) else self.held.on(device)

    def image_set(self) -> ImageSet:
        """Return the images with their numbers as their ids, and which of them are copies of others."""
        height, width = (*self.shape[1:], 1, 1)[:2]
        records = tuple(
            ImageRecord(str(index), f"memory:{index}", "", digest, int(width), int(height), "")
            for index, digest in enumerate(self.digests)
        )
        return ImageSet(Path(), records, first_copies(self.digests))


def collected(
    images: object, network: nn.Module, *, transform: Transform | None, n_images: int | None, progress: Progress
) -> Inputs:
    """Return the images as inputs of a network. They are read once.

    Tensors and arrays of all images are used as they are. All other images are copied, into a temporary file if they
    are too large for the memory.

    Parameters
    ----------
    images : object
        The images, in one of the forms that `pcace.rank` takes.
    network : Module
        The network, whose signature tells how images in a dictionary are passed to it.
    transform : callable or None
        From one image to the network's input.
    n_images : int or None
        Largest number of images to read; None: all.
    progress : callable
        Called with the number of images that are read and the number of all images.

    Raises
    ------
    InputError
        If there is no image, or something is not an image of the same shape as the first.
    StorageError
        If the images are too large for the memory and for the disk.
    """
    reader = ImageReader(network, transform)
    length = _length(images)
    expected = n_images if length is None else length if n_images is None else min(n_images, length)
    read = _Collection(expected or 0, are_given=transform is None and _are_given(images))
    for batch in reader.batches(images):
        read.add(batch if n_images is None else batch[: n_images - len(read)])
        progress(len(read), max(expected or 0, len(read)))
        if n_images is not None and len(read) >= n_images:
            break
    return read.inputs(reader.keyword)


class _Collection:
    """The images that are read so far.

    Parameters
    ----------
    n_expected : int
        Number of all images, if it is known, else 0.
    are_given : bool
        Whether the images are in memory, whatever is done here.
    """

    def __init__(self, n_expected: int, *, are_given: bool) -> None:
        self._n_expected, self._are_given = n_expected, are_given
        self._parts: list[torch.Tensor] = []  # in memory
        self._waiting: list[torch.Tensor] = []  # images that are not joined yet
        self._stored: StoredTensors | None = None
        self._digests: list[str] = []
        self._first: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, batch: torch.Tensor) -> None:
        """Add images of shape (n_images, ...)."""
        self._check(batch)
        if not len(batch):
            return
        if self._first is None:
            self._first = batch[:1].clone()
        self._digests += [_digest(image) for image in batch]
        if self._are_given:
            self._parts.append(batch)
            return
        self._waiting.append(batch)
        if sum(map(len, self._waiting)) >= N_JOINED:
            self._join()

    def inputs(self, keyword: str | None) -> Inputs:
        """Return all images."""
        if self._first is None:
            raise InputError("images must contain at least one image; got none. A generator can be read only once.")
        self._join()
        held = TensorInputs(self._parts) if self._stored is None else self._stored
        shape, device = tuple(self._first.shape[1:]), self._first.device
        return Inputs(held, tuple(self._digests), shape, device, keyword)

    def _join(self) -> None:
        """Copy the waiting images, which may share the memory of processes that have read them, into one tensor."""
        if not self._waiting:
            return
        joined = torch.cat(self._waiting).contiguous()
        self._waiting = []
        n_all = max(self._n_expected, len(self))
        if self._stored is None and is_large(n_all * joined[0].numel() * joined.element_size()):
            self._stored = StoredTensors(joined.shape[1:], joined.dtype)
            for part in self._parts:
                self._stored.append(part)
            self._parts = []
        if self._stored is None:
            self._parts.append(joined)
        else:
            self._stored.append(joined)

    def _check(self, batch: torch.Tensor) -> None:
        """Raise `InputError` unless the images are floating-point inputs like the first one."""
        if not batch.is_floating_point():
            raise InputError(
                "images must be floating-point inputs of the network; got type "
                f"{str(batch.dtype).removeprefix('torch.')}. Normalise them as in training, or give transform=..., "
                "which does so for one image."
            )
        if self._first is None:
            return
        if batch.shape[1:] != self._first.shape[1:]:
            shapes = [" x ".join(map(str, each.shape[1:])) for each in (self._first, batch)]
            raise InputError(
                f"all images must have one shape; got {shapes[0]} and {shapes[1]} (image {len(self)}). "
                "Resize them, for example in transform=..."
            )
        if batch.dtype != self._first.dtype:
            types = [str(each.dtype).removeprefix("torch.") for each in (self._first, batch)]
            raise InputError(
                f"all images must have one type; got {types[0]} and {types[1]} (image {len(self)}). "
                "Convert them to one of the two."
            )


def _length(images: object) -> int | None:
    """Return the number of images, if it is known before they are read."""
    if isinstance(images, DataLoader):
        images = images.dataset
    if isinstance(images, Mapping | tuple):
        return None
    try:
        return len(images)  # type: ignore[arg-type]
    except TypeError:
        return None


def _are_given(images: object) -> bool:
    """Return whether the images are in memory, in one tensor or array, with or without labels."""
    if isinstance(images, Mapping):
        return all(not isinstance(value, list) for value in images.values())
    first = images[0] if isinstance(images, tuple) and images else images
    return isinstance(first, torch.Tensor | np.ndarray)


def _digest(image: torch.Tensor) -> str:
    values = image.detach().cpu().contiguous()
    return blake2b(values.reshape(-1).view(torch.uint8).numpy().tobytes(), digest_size=32).hexdigest()
