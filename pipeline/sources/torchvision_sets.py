"""torchvision's data sets: read where they lie, downloaded by torchvision where it may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torchvision import datasets

from pipeline.errors import InputError
from pipeline.images import png
from pipeline.settings import TorchvisionSettings
from pipeline.sources.base import Candidate, LocalSource

DIGITS = tuple("0123456789")  # torchvision calls MNIST's "0 - zero", and gives SVHN's no name
ONLY_READ = ("ImageNet", "ImageFolder")


class TorchvisionSource(LocalSource):
    """One of torchvision's data sets, each class in the data set's own order."""

    name = "torchvision"

    def __init__(self, data: TorchvisionSettings) -> None:
        self._data = data
        self.root = Path(data.root).expanduser()

    def __str__(self) -> str:
        """Return how messages call this source."""
        return f"torchvision's {self._data.name}, {self._data.split}"

    def by_class(self) -> Mapping[str, Sequence[Candidate]]:
        """Return the images of each class, in the order of the classes' indices."""
        dataset = self._opened()
        labels, names = np.asarray(_labels(dataset)), self._names(dataset)
        read = self._file if isinstance(dataset, datasets.ImageFolder | datasets.Imagenette) else _pixels
        return {
            name: [
                Candidate(f"{self._data.name}/{self._data.split}/{index}", partial(read, dataset, index))
                for index in np.flatnonzero(labels == label).tolist()
            ]
            for label, name in enumerate(names)
        }

    def _names(self, dataset: Any) -> tuple[str, ...]:
        """Return one name a class; where a data set has several for one, its first; where two share one, the code."""
        if self._data.name in ("MNIST", "SVHN"):
            return DIGITS
        names = [name[0] if isinstance(name, tuple) else name for name in dataset.classes]
        codes = getattr(dataset, "wnids", names)
        return tuple(code if names.count(name) > 1 else name for name, code in zip(names, codes, strict=True))

    @staticmethod
    def _file(dataset: Any, index: int) -> bytes:
        samples = getattr(dataset, "samples", None) or dataset._samples
        return Path(samples[index][0]).read_bytes()

    def _opened(self) -> Any:
        """Open the data set, downloading it where it is not there."""
        try:
            return _open(self._data.name, self.root, self._data.split, download=False)
        except (RuntimeError, FileNotFoundError) as missing:
            if not self._data.download or self._data.name in ONLY_READ:
                raise InputError(
                    f"data.root must hold {self}; got {self.root} ({' '.join(str(missing).split())}). "
                    f"{'Put it there' if self._data.name in ONLY_READ else 'Set data.download=true'}, or set data.root."
                ) from missing
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return _open(self._data.name, self.root, self._data.split, download=True)
        except (RuntimeError, OSError) as error:  # urllib's errors are OSErrors; a wrong checksum is a RuntimeError
            raise InputError(
                f"{self} must be downloadable; got {' '.join(str(error).split())}. "
                f"Put it into {self.root} by hand, or set data.root to where it is."
            ) from error


@lru_cache(maxsize=1)  # a run asks three times, and walking through ImageNet takes a minute
def _open(name: str, root: Path, split: str, *, download: bool) -> Any:
    train = split == "train"
    if name in ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"):
        return getattr(datasets, name)(root, train=train, download=download)
    if name == "SVHN":
        return datasets.SVHN(root, split=split, download=download)
    if name == "Imagenette":
        return datasets.Imagenette(root, split="train" if train else "val", size="160px", download=download)
    if name == "ImageNet":
        return datasets.ImageNet(root, split="train" if train else "val")
    return datasets.ImageFolder(root)


def _labels(dataset: Any) -> Any:
    """Return every image's class index; torchvision keeps it under another name in each data set."""
    if isinstance(dataset, datasets.Imagenette):
        return [label for _, label in dataset._samples]
    return dataset.labels if isinstance(dataset, datasets.SVHN) else dataset.targets


def _pixels(dataset: Any, index: int) -> bytes:
    """Return an image that is kept as an array as the bytes of a PNG."""
    return png(np.asarray(dataset[index][0]))
