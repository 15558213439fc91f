"""Base classes of the image sources, and the checks that they share."""

from __future__ import annotations

import difflib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import ImageRecord, ImageSet, first_copies
from pipeline.decoding import Decoded, ImageError, decode_whole
from pipeline.digests import digest_bytes
from pipeline.errors import InputError, listed
from pipeline.progress import Progress
from pipeline.sources.choose import ImageRequest, TooFewError, choose
from pipeline.threads import in_threads


class Source(ABC):
    """A collection of images, with or without classes."""

    name: str

    @abstractmethod
    def class_names(self) -> tuple[str, ...] | None:
        """Return the classes in the order of their indices, or None if the source has no classes."""

    @abstractmethod
    def identity(self, request: ImageRequest) -> dict[str, object]:
        """Return all that determines the image set, for its key: digests and settings, no paths."""

    @abstractmethod
    def fetch(self, request: ImageRequest, folder: Path, progress: Progress) -> ImageSet:
        """Write exactly ``request.n_images`` images to `folder`; each of them has been decoded once as a check."""


@dataclass(frozen=True)
class Candidate:
    """An image that can be chosen: its id, and a function that returns the bytes of its file, called in any thread."""

    id: str
    read: Callable[[], bytes]


class LocalSource(Source):
    """A source whose images are on this machine. The bytes of the images are part of the key of the image set."""

    @abstractmethod
    def by_class(self) -> Mapping[str, Sequence[Candidate]]:
        """Return the images of each class in the order of the source; without classes, all under the empty name."""

    def class_names(self) -> tuple[str, ...] | None:
        """Return the classes in the order of their indices, or None if the source has no classes."""
        names = tuple(self.by_class())
        return None if names == ("",) else names

    def identity(self, request: ImageRequest) -> dict[str, object]:
        """Return all that determines the image set, for its key: ids and digests of the images, no paths."""
        digest = hashlib.sha256()
        for _, candidate in self._chosen(request):
            digest.update(f"{candidate.id}\0{digest_bytes(self._read(candidate))}\n".encode())
        return {
            "source": self.name,
            "class_name": request.class_name if request.images_from != "all" else None,
            "images_from": request.images_from,
            "images": digest.hexdigest(),
        }

    def fetch(self, request: ImageRequest, folder: Path, progress: Progress) -> ImageSet:
        """Copy the images to `folder`; each of them is decoded once as a check.

        Raises
        ------
        InputError
            If there are fewer than ``request.n_images`` images, or one of them cannot be read or decoded.
        """
        (folder / "images").mkdir()

        def copied(item: tuple[int, tuple[str, Candidate]]) -> tuple[ImageRecord, str]:
            """Copy an image, and return its record and the digest of its pixels."""
            index, (class_name, candidate) = item
            data = self._read(candidate)
            try:
                decoded = decode_whole(data)
            except ImageError as error:
                raise InputError(
                    f"every image must be decodable; got '{candidate.id}' ({error}). "
                    "Repair or remove it, and run again."
                ) from error
            source = f"{self.name}:{candidate.id}"
            return write_image(folder, index, data, decoded, candidate.id, source, class_name), decoded.digest

        records, pixels = [], []
        for record, digest in in_threads(copied, list(enumerate(self._chosen(request)))):
            records.append(record)
            pixels.append(digest)
            progress(len(records), request.n_images)
        return ImageSet(folder, tuple(records), first_copies(pixels))

    def _chosen(self, request: ImageRequest) -> list[tuple[str, Candidate]]:
        """Return the chosen images, each with its class."""
        classes = self.by_class()
        if tuple(classes) == ("",):  # no classes: the images count as those of the class that was asked for
            require_one_class(request, self)
            classes = {request.class_name or "": classes[""]}
        elif request.images_from != "all" and request.class_name not in classes:
            raise self._no_such_class(request.class_name, tuple(classes))
        pairs = {name: [(name, candidate) for candidate in found] for name, found in classes.items()}
        try:
            return [self._named(pair) for pair in choose(request, pairs)]
        except TooFewError as error:
            of_class = {
                "class": "" if request.class_name is None else f"class '{request.class_name}' of ",
                "all": "all classes of ",
                "balanced": f"half of them class '{request.class_name}' of ",
            }[request.images_from]
            raise InputError(
                f"n_images must be at most {error.n_available}; got {request.n_images} ({of_class}{self}). "
                "Lower it or add images."
            ) from error

    def _named(self, pair: tuple[str, Candidate]) -> tuple[str, Candidate]:
        """Refuse an image whose name is not text: such names cannot be written to tables."""
        try:
            "".join((pair[0], pair[1].id)).encode()
        except UnicodeEncodeError as error:
            name = pair[1].id.encode(errors="backslashreplace").decode()
            raise InputError(
                f"the name of every image must be valid UTF-8; got '{name}' ({self}). Rename it."
            ) from error
        return pair

    def _no_such_class(self, class_name: str | None, classes: tuple[str, ...]) -> InputError:
        near = difflib.get_close_matches(class_name or "", classes, n=3, cutoff=0.4) or classes
        got = "none" if class_name is None else f"'{class_name}'"
        return InputError(
            f"class_name must be one of the data's {len(classes)} classes; got {got} ({self}). "
            f"{'The classes are' if near is classes else 'Nearest'}: {listed(near, 10)}. "
            "For images of every class, set data.images_from=all."
        )

    @staticmethod
    def _read(candidate: Candidate) -> bytes:
        try:
            return candidate.read()
        except OSError as error:
            raise InputError(
                f"every image must be readable; got '{candidate.id}' ({error.strerror or error}). "
                "Repair or remove it, and run again."
            ) from error


def require_one_class(request: ImageRequest, source: Source) -> None:
    """Refuse a request for images of several classes from a source without classes."""
    if request.images_from != "class":
        raise InputError(
            f"data.images_from must be class for a source without classes; got {request.images_from} ({source}). "
            "Use a source with classes: a folder with one subfolder per class, or a manifest with a class column."
        )


def write_image(
    folder: Path, index: int, data: bytes, decoded: Decoded, image_id: str, source: str, class_name: str
) -> ImageRecord:
    """Write the unchanged bytes of an image below `folder`, and return its record.

    The file is named after `index`: a name from outside could lead out of the folder.
    """
    file = f"images/{index:05d}{decoded.suffix}"
    (folder / file).write_bytes(data)
    width, height = decoded.image.size
    return ImageRecord(image_id, source, file, digest_bytes(data), width, height, class_name)
