"""The forms in which people have images: tensors, arrays, pictures, pairs, dictionaries, data sets and batches."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pipeline.decoding import ImageError, decode
from pipeline.errors import InputError, listed

Transform = Callable[[Any], Any]
"""From one image to the network's input for it, (channels, height, width)."""

# Names under which data sets keep their images, in the order in which they are looked for.
NAMES = ("pixel_values", "image", "images", "img", "inputs", "input", "x", "data")
COLOURS = (3, 4)  # numbers of channels of pictures, by which arrays with the channels last are recognised


class ImageReader:
    """Reads images in any form; finds the images in labelled pairs and dictionaries.

    Parameters
    ----------
    network : Module
        The network, whose signature tells how images in a dictionary are passed to it.
    transform : callable or None
        From one image to the network's input.

    Attributes
    ----------
    keyword : str or None
        Name of the argument of the network that the images are passed as; None for the first argument. It is known
        when the first images are read.
    """

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
            yield from self._whole(images)
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

    def _whole(self, item: Any) -> Iterator[torch.Tensor]:
        """Yield all images: at once, or one after the other if they are transformed."""
        item = self._images(item)
        if self._transform is None:
            yield self._batch(item)
        else:
            yield from map(self._single, item)

    def _batch(self, item: Any) -> torch.Tensor:
        """Return a batch of images as one tensor."""
        item = self._images(item)
        if isinstance(item, Image.Image | str | Path):
            return self._single(item)
        if isinstance(item, list | tuple):
            return torch.cat([self._single(each) for each in item])
        if self._transform is not None:
            return torch.cat([self._single(each) for each in item])
        batch = _as_tensor(item, n_axes=4)
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
        return _as_tensor(item, n_axes=3)[None]

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


def _as_tensor(item: Any, n_axes: int | None = None) -> torch.Tensor:
    """Return a tensor or an array as a tensor; arrays of `n_axes` must not have the channels of pictures last."""
    if isinstance(item, torch.Tensor):
        return item.detach()
    try:
        array = np.asarray(item)
    except (TypeError, ValueError) as error:
        raise InputError(f"images must be tensors, arrays or PIL images; got {type(item).__name__}.") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"images must be tensors, arrays or PIL images; got {type(item).__name__}.")
    if array.ndim == n_axes and array.shape[-1] in COLOURS and array.shape[-3] not in (1, *COLOURS):
        axes = "0, 3, 1, 2" if n_axes == 4 else "2, 0, 1"
        raise InputError(
            f"images in arrays must have the channels before height and width; got shape {array.shape}, which "
            f"looks like channels last. Give array.transpose({axes}), or transform=..., which does so for one image; "
            "a tensor is passed to the network as it is."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nothing writes into it
        return torch.from_numpy(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))


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
