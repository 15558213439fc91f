"""torchvision's data sets, read from a local folder and downloaded to it by torchvision if that is allowed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from torchvision import datasets

from pipeline.decoding import png
from pipeline.errors import InputError
from pipeline.settings import TorchvisionSettings
from pipeline.sources.base import Candidate, LocalSource

DIGITS = tuple("0123456789")  # torchvision calls the classes of MNIST "0 - zero" and so on, and does not name SVHN's
NOT_DOWNLOADABLE = ("ImageNet", "ImageFolder")


@dataclass(frozen=True)
class _DataSet:
    """What the source needs of a data set; torchvision has other names for it in each of them.

    Attributes
    ----------
    labels : array-like of int, shape (n_images,)
        Class index of each image.
    class_names : tuple of str
        Names of the classes, in the order of their indices.
    read : callable
        Returns the bytes of the image with a given index.
    """

    labels: Any
    class_names: tuple[str, ...]
    read: Callable[[int], bytes]


class TorchvisionSource(LocalSource):
    """One of torchvision's data sets, each class in the order of the data set.

    Parameters
    ----------
    data : TorchvisionSettings
        Name of the data set, its folder, the split, and whether it may be downloaded.
    """

    name = "torchvision"

    def __init__(self, data: TorchvisionSettings) -> None:
        self._data = data
        self.root = Path(os.path.expanduser(data.root))

    def __str__(self) -> str:
        """Return the name of the source in messages."""
        return f"torchvision's {self._data.name}, split {self._data.split}"

    def by_class(self) -> Mapping[str, Sequence[Candidate]]:
        """Return the images of each class, in the order of the class indices."""
        dataset = self._dataset()
        labels = np.asarray(dataset.labels)
        return {
            name: [
                Candidate(f"{self._data.name}/{self._data.split}/{index}", partial(dataset.read, index))
                for index in np.flatnonzero(labels == label).tolist()
            ]
            for label, name in enumerate(dataset.class_names)
        }

    def _dataset(self) -> _DataSet:
        """Open the data set, and download it first if it is missing."""
        is_downloadable = self._data.name not in NOT_DOWNLOADABLE
        try:
            return _open(self._data, self.root, download=False)
        except (RuntimeError, FileNotFoundError) as missing:
            if not self._data.download or not is_downloadable:
                raise InputError(
                    f"data.root must contain {self}; got {self.root} ({' '.join(str(missing).split())}). "
                    f"{'Set data.download=true' if is_downloadable else 'Copy the data set there'}, or set data.root."
                ) from missing
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return _open(self._data, self.root, download=True)
        except (RuntimeError, OSError) as error:  # urllib's errors are OSErrors; a wrong checksum is a RuntimeError
            raise InputError(
                f"{self} must be downloadable; got {' '.join(str(error).split())}. "
                f"Copy it to {self.root}, or set data.root to its folder."
            ) from error


@lru_cache(maxsize=1)  # a run opens it three times, and listing the files of ImageNet takes a minute
def _open(data: TorchvisionSettings, root: Path, *, download: bool) -> _DataSet:
    """Open the data set, downloading it first if `download` is set and torchvision can."""
    is_train = data.split == "train"
    match data.name:
        case "MNIST":
            mnist = datasets.MNIST(root, train=is_train, download=download)
            return _DataSet(mnist.targets, DIGITS, partial(_pixels, mnist))
        case "FashionMNIST" | "CIFAR10" | "CIFAR100":
            found = getattr(datasets, data.name)(root, train=is_train, download=download)
            return _DataSet(found.targets, tuple(found.classes), partial(_pixels, found))
        case "SVHN":
            svhn = datasets.SVHN(root, split=data.split, download=download)
            return _DataSet(svhn.labels, DIGITS, partial(_pixels, svhn))
        case "Imagenette":
            split = "train" if is_train else "val"
            imagenette = datasets.Imagenette(root, split=split, size="160px", download=download)
            samples = imagenette._samples
            return _DataSet([label for _, label in samples], _unique_names(imagenette), partial(_file, samples))
        case "ImageNet":
            imagenet = datasets.ImageNet(root, split="train" if is_train else "val")
            return _DataSet(imagenet.targets, _unique_names(imagenet), partial(_file, imagenet.samples))
        case "ImageFolder":
            folder = datasets.ImageFolder(root)
            return _DataSet(folder.targets, tuple(folder.classes), partial(_file, folder.samples))
        case _:
            assert_never(data.name)


def _unique_names(dataset: Any) -> tuple[str, ...]:
    """Return one name per class of ImageNet: its first, or its WordNet id if two classes share that name."""
    names = [synonyms[0] for synonyms in dataset.classes]
    return tuple(wnid if names.count(name) > 1 else name for name, wnid in zip(names, dataset.wnids, strict=True))


def _file(samples: Sequence[tuple[str, int]], index: int) -> bytes:
    return Path(samples[index][0]).read_bytes()


def _pixels(dataset: Any, index: int) -> bytes:
    """Return an image that the data set keeps as an array, encoded as PNG."""
    return png(np.asarray(dataset[index][0]))
