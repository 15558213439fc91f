"""Images in the forms in which people have them, as inputs of a network."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pcace._memory import check_room
from pipeline.artifacts import ImageRecord, ImageSet, first_copies
from pipeline.decoding import ImageError, decode
from pipeline.errors import InputError, listed
from pipeline.networks.inputs import TensorInputs
from pipeline.progress import Progress

Transform = Callable[[Any], Any]
"""From one image to the network's input for it, (channels, height, width)."""

N_EXAMPLES = 2  # images in the forward pass that shows the layers, see `pipeline.networks.layout.layout`
# Names under which data sets keep their images, in the order in which they are looked for.
NAMES = ("pixel_values", "image", "images", "img", "inputs", "input", "x", "data")


@dataclass(frozen=True)
class Inputs:
    """The images as inputs of the network, all of the same shape.

    Attributes
    ----------
    tensors : sequence of tensors of shape (n_images, ...)
        The inputs, in order, on the device and in the type in which they were given.
    keyword : str or None
        Name of the argument of the network that they are passed as; None for the first argument.
    """

    tensors: Sequence[torch.Tensor]
    keyword: str | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return sum(len(tensor) for tensor in self.tensors)

    def on(self, device: torch.device | None) -> TensorInputs:
        """Return the inputs on a device; None: as they are."""
        return TensorInputs(self.tensors, device)

    def image_set(self) -> ImageSet:
        """Return the images with their numbers as their ids, and which of them are copies of others."""
        digests = [_digest(image) for tensor in self.tensors for image in tensor]
        height, width = (*self.tensors[0].shape[2:], 1, 1)[:2]
        records = tuple(
            ImageRecord(str(index), f"memory:{index}", "", digest, int(width), int(height), "")
            for index, digest in enumerate(digests)
        )
        return ImageSet(Path(), records, first_copies(digests))


def collected(
    images: object, network: nn.Module, *, transform: Transform | None, n_images: int | None, progress: Progress
) -> Inputs:
    """Return the images as inputs of a network. They are read once.

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
    """
    reader = _Reader(network, transform)
    expected = _length(images) if n_images is None else n_images
    found: list[torch.Tensor] = []
    n_read = 0
    for batch in reader.batches(images):
        kept = batch if n_images is None else batch[: n_images - n_read]
        _check(kept, found, n_read)
        if kept.device.type == "cpu" and not isinstance(images, torch.Tensor | np.ndarray):
            n_all = max(expected or 0, n_read + len(kept))
            check_room(
                (n_all - n_read) * kept[:1].numel() * kept.element_size(),
                f"{n_all} images",
                "Give fewer images: n_images=...",
            )
        found.append(kept)
        n_read += len(kept)
        progress(n_read, max(expected or 0, n_read))
        if n_images is not None and n_read >= n_images:
            break
    if not n_read:
        raise InputError("images must contain at least one image; got none. A generator can be read only once.")
    return Inputs(_joined(found), reader.keyword)


def _length(images: object) -> int | None:
    if isinstance(images, DataLoader):
        images = images.dataset
    try:
        return len(images)  # type: ignore[arg-type]
    except TypeError:
        return None


def _joined(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return single images in tensors of 64 images, so that reading a batch joins a few tensors only."""
    if len(tensors) < 2 or len(tensors[0]) > 1:
        return tensors
    return [torch.cat(tensors[start : start + 64]) for start in range(0, len(tensors), 64)]


def _check(batch: torch.Tensor, earlier: Sequence[torch.Tensor], n_read: int) -> None:
    """Raise `InputError` unless the images are floating-point inputs of the same shape as those before."""
    if not batch.is_floating_point():
        raise InputError(
            f"images must be floating-point inputs of the network; got type {str(batch.dtype).removeprefix('torch.')}. "
            "Normalise them as in training, or give transform=..., which does so for one image."
        )
    if earlier and batch.shape[1:] != earlier[0].shape[1:]:
        shapes = [" x ".join(map(str, each.shape[1:])) for each in (earlier[0], batch)]
        raise InputError(
            f"all images must have one shape; got {shapes[0]} and {shapes[1]} (image {n_read}). "
            "Resize them, for example in transform=..."
        )


def _digest(image: torch.Tensor) -> str:
    values = image.detach().cpu().contiguous()
    return blake2b(values.reshape(-1).view(torch.uint8).numpy().tobytes(), digest_size=32).hexdigest()


class _Reader:
    """Reads images in any form; finds the images in labelled pairs and dictionaries."""

    def __init__(self, network: nn.Module, transform: Transform | None) -> None:
        self.keyword: str | None = None
        self._arguments = [
            name
            for name, argument in inspect.signature(network.forward).parameters.items()
            if argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
        ]
        self._transform = transform

    def batches(self, images: Any) -> Iterator[torch.Tensor]:
        """Yield the images in tensors of shape (n_images, ...)."""
        if isinstance(images, Image.Image | str | Path):
            raise InputError(
                f"images must be several images; got one ({type(images).__name__}). Pass a list of images, a tensor, "
                "a Dataset, a DataLoader or batches."
            )
        if isinstance(images, torch.Tensor | np.ndarray | Mapping) or (isinstance(images, tuple) and _is_pair(images)):
            yield self._batch(images)
        elif isinstance(images, DataLoader):
            is_batched = images.batch_sampler is not None
            yield from (self._batch(each) if is_batched else self._single(each) for each in images)
        elif isinstance(images, IterableDataset):
            yield from map(self._single, images)
        elif isinstance(images, Dataset) or (hasattr(images, "__getitem__") and hasattr(images, "__len__")):
            yield from (self._single(images[index]) for index in range(len(images)))
        elif isinstance(images, Iterable):
            yield from map(self._batch, images)
        else:
            raise InputError(
                f"images must be a tensor, an array, a list, a Dataset, a DataLoader or batches; "
                f"got {type(images).__name__}."
            )

    def _batch(self, item: Any) -> torch.Tensor:
        """Return a batch of images as one tensor."""
        item = self._images(item)
        if isinstance(item, Image.Image | str | Path):
            return self._single(item)
        if isinstance(item, list | tuple):
            return torch.cat([self._single(each) for each in item])
        if self._transform is not None:
            return torch.cat([self._single(each) for each in item])
        batch = _as_tensor(item)
        if batch.ndim < 2:
            raise InputError(
                f"images must have an axis for the images and others for each image; got shape {tuple(batch.shape)}."
            )
        return batch

    def _single(self, item: Any) -> torch.Tensor:
        """Return one image as a tensor of shape (1, ...); a tensor with four axes is taken as a batch."""
        item = self._images(item)
        if isinstance(item, str | Path):
            item = _decoded(Path(item))
        if getattr(item, "ndim", 0) == 4:
            return self._batch(item)
        if self._transform is not None:
            return _transformed(item, self._transform)
        if isinstance(item, Image.Image):
            raise InputError(
                "transform must be given for images that are not tensors; got PIL images. Pass the transform that the "
                "weights need, for example ResNet18_Weights.DEFAULT.transforms()."
            )
        return _as_tensor(item)[None]

    def _images(self, item: Any) -> Any:
        """Return the images in a dictionary, or in a pair of images and labels."""
        if isinstance(item, Mapping):
            name = self._name(item)
            if name in self._arguments[1:]:
                self.keyword = name
            return item[name]
        if isinstance(item, list | tuple) and item and _is_pair(item):
            return self._images(item[0])
        return item

    def _name(self, item: Mapping[str, Any]) -> str:
        """Return the name of the images in a dictionary."""
        of_network = [name for name in self._arguments if name in item and _is_image(item[name])]
        for name in (*of_network, *NAMES):
            if name in item:
                return name
        like = [name for name, value in item.items() if _is_image(value)]
        if len(like) != 1:
            raise InputError(
                f"images in dictionaries must have one of the names {listed(NAMES)}, or be the only images; "
                f"got the names {listed([str(name) for name in item])}. Pass the images alone."
            )
        return like[0]


def _is_image(value: object) -> bool:
    """Return whether a value is one image or a batch of images, and not labels."""
    if isinstance(value, torch.Tensor):
        return value.is_floating_point() and value.ndim >= 2
    if isinstance(value, np.ndarray):
        return value.ndim >= 2
    if isinstance(value, list) and value:
        return _is_image(value[0])
    return isinstance(value, Image.Image)


def _is_pair(item: Sequence[Any]) -> bool:
    """Return whether a list or tuple is images followed by labels, and not several images."""
    first, others = item[0], item[1:]
    if isinstance(item, tuple) and not isinstance(first, Image.Image | str | Path):
        shape = getattr(first, "shape", None)
        return any(getattr(other, "shape", None) != shape for other in others) or not others
    if isinstance(first, torch.Tensor | np.ndarray):
        return first.ndim >= 2 and all(np.ndim(other) < first.ndim for other in others)
    return isinstance(item, tuple) and not any(isinstance(other, type(first)) for other in others)


def _as_tensor(item: Any) -> torch.Tensor:
    if isinstance(item, torch.Tensor):
        return item.detach()
    try:
        array = np.asarray(item)
    except (TypeError, ValueError) as error:
        raise InputError(f"images must be tensors, arrays or PIL images; got {type(item).__name__}.") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"images must be tensors, arrays or PIL images; got {type(item).__name__}.")
    return torch.from_numpy(np.require(array, requirements="W"))


def _transformed(item: Any, transform: Transform) -> torch.Tensor:
    """Return what the transform makes of one image, (1, ...)."""
    if hasattr(transform, "image_mean") and hasattr(transform, "preprocess"):  # an image processor of transformers
        made = transform(images=item, return_tensors="pt")  # type: ignore[call-arg]
    else:
        made = transform(item)
    if isinstance(made, Mapping):
        made = made[next((name for name in NAMES if name in made), next(iter(made)))]
    if isinstance(made, list | tuple):
        (made,) = made
    tensor = _as_tensor(made)
    return tensor if tensor.ndim == 4 else tensor[None]


def _decoded(path: Path) -> Image.Image:
    try:
        return decode(path.read_bytes()).image.convert("RGB")
    except (OSError, ImageError) as error:
        raise InputError(f"images must be files that can be decoded; got {path} ({error}).") from error


def normalization(transform: object) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and the standard deviation that a transform normalises with; None if they are not known."""
    waiting = [transform]
    while waiting:
        each = waiting.pop()
        for names in (("mean", "std"), ("image_mean", "image_std")):
            mean, std = (getattr(each, name, None) for name in names)
            if isinstance(mean, Sequence | torch.Tensor) and isinstance(std, Sequence | torch.Tensor):
                return tuple(map(float, mean)), tuple(map(float, std))
        waiting += list(itertools.chain(getattr(each, "transforms", ()) or ()))
    return None
