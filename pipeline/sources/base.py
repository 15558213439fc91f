"""What every source does: say which images would be taken, then take them, decoded and checked."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.artifacts import ImageRecord, ImageSet
from pipeline.digests import digest_bytes
from pipeline.errors import InputError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageRequest:
    """Which images are wanted.

    Attributes
    ----------
    class_name : str or None
        None where the source knows no classes.
    n_images : int
        Exactly as many.
    select : {"first", "random"}
        The first by name, or a sample drawn with `seed`, in order of name.
    seed : int
        Read only by ``select="random"``.
    """

    class_name: str | None
    n_images: int
    select: Literal["first", "random"]
    seed: int


@dataclass(frozen=True)
class Candidate:
    """An image that could be taken: its name, and how to get its bytes."""

    id: str
    suffix: str
    read: Callable[[], bytes]


class Source(ABC):
    """A place with images, by class or not."""

    name: str

    @abstractmethod
    def class_names(self) -> tuple[str, ...] | None:
        """Return the classes in the order of their index, or None where there are none."""

    @abstractmethod
    def candidates(self, class_name: str | None) -> Sequence[Candidate]:
        """Return all images of a class, by name; raise `InputError` where there is no such class."""

    def identity(self, request: ImageRequest) -> dict[str, object]:
        """Return what decides the image set, for its key: names and digests of the images' bytes, no paths."""
        digest = hashlib.sha256()
        for candidate in self._chosen(request):
            digest.update(f"{candidate.id}\0{digest_bytes(self._read(candidate))}\n".encode())
        return {"source": self.name, "class_name": request.class_name, "images": digest.hexdigest()}

    def fetch(self, request: ImageRequest, folder: Path, progress: Progress) -> ImageSet:
        """Copy the images into `folder`, each decoded once to see that it can be.

        Raises
        ------
        InputError
            If there are fewer than `n_images`, or one of them cannot be decoded (it is named).
        """
        (folder / "images").mkdir()
        records = []
        for index, candidate in enumerate(self._chosen(request)):
            data = self._read(candidate)
            width, height = _decoded_size(data, candidate.id)
            file = f"images/{index:05d}{candidate.suffix}"
            (folder / file).write_bytes(data)
            source = f"{self.name}:{candidate.id}"
            records.append(
                ImageRecord(candidate.id, source, file, digest_bytes(data), width, height, request.class_name or "")
            )
            progress(index + 1, request.n_images)
        return ImageSet(folder, tuple(records)).save()

    def _chosen(self, request: ImageRequest) -> list[Candidate]:
        candidates = self.candidates(request.class_name)
        n_found = len(candidates)
        if request.n_images > n_found:
            of_class = "" if request.class_name is None else f"class '{request.class_name}' of "
            raise InputError(
                f"n_images must be at most {n_found}; got {request.n_images} ({of_class}{self}). "
                "Lower it or add images."
            )
        if request.select == "first":
            return list(candidates[: request.n_images])
        drawn = np.random.default_rng(request.seed).choice(n_found, request.n_images, replace=False)
        return [candidates[index] for index in sorted(drawn)]

    @staticmethod
    def _read(candidate: Candidate) -> bytes:
        try:
            return candidate.read()
        except OSError as error:
            raise InputError(
                f"every image must be readable; got '{candidate.id}' ({error.strerror or error}). "
                "Mend or remove it, and run again."
            ) from error


def _decoded_size(data: bytes, name: str) -> tuple[int, int]:
    """Return width and height in pixels of an image that decodes to its last row."""
    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
            return image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise InputError(
            f"every image must decode; got '{name}' ({reason}). Mend or remove it, and run again."
        ) from error
