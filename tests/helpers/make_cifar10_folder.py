"""Write the photographs of the benchmark data from torchvision's CIFAR-10.

    python -m tests.helpers.make_cifar10_folder CIFAR10_ROOT DATA_FOLDER

CIFAR10_ROOT is the ``root`` of ``torchvision.datasets.CIFAR10``, which is downloaded if it is not there (170 MB).
DATA_FOLDER is the folder in ``PCACE_TEST_DATA``. The 1,000 images of the test split of each class in `DIGESTS` are
written to ``DATA_FOLDER/cifar10/<class>/0000.jpg`` to ``0999.jpg``, in the order of the data set, as JPEG files of
Pillow's default quality (75).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL.Image import Image

# SHA-256 of the concatenated files of each class with which the numbers in the tests were measured.
DIGESTS = {
    "cat": "619a9ce79c7d6fb3754357a628918c38f9a05b3af8891d7b3f602e30da143460",
    "dog": "131ce34c78951d069af023a507d38f3ded1a12f7abfe46d27c5dff0fbae15b12",
    "ship": "0567d72a7de27bdfc2ffc39340372949295e3642e02a25d8c1d53322a4398235",
}


def write(images: Iterable[tuple[Image, int]], class_names: Sequence[str], folder: Path) -> None:
    """Write the images of the classes in `DIGESTS`.

    Parameters
    ----------
    images : iterable of (PIL.Image.Image, int)
        Images with the indices of their classes.
    class_names : sequence of str
        Name of each class.
    folder : Path
        Folder for one subfolder per class. Files of the same name are replaced.
    """
    counts = dict.fromkeys(DIGESTS, 0)
    for name in counts:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for image, label in images:
        name = class_names[label]
        if name in counts:
            image.save(folder / name / f"{counts[name]:04d}.jpg", quality=75)
            counts[name] += 1


def differing(folder: Path) -> list[str]:
    """Return the classes whose files are not those with which the numbers in the tests were measured."""
    return [name for name, digest in DIGESTS.items() if digest_of(folder / name) != digest]


def digest_of(folder: Path) -> str:
    """Return the SHA-256 of the concatenated JPEG files of a folder, in the order of their names."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.jpg")))).hexdigest()


def main() -> None:
    """Write the photographs, and say whether they are those of the recorded numbers."""
    from torchvision.datasets import CIFAR10

    root, data = sys.argv[1:]
    dataset = CIFAR10(root, train=False, download=True)
    folder = Path(data) / "cifar10"
    write(dataset, dataset.classes, folder)
    if names := differing(folder):
        print(
            f"warning: the files of {', '.join(names)} in {folder} differ from those with which the numbers in the "
            "tests were measured, for example because of another JPEG encoder; some tests may fail narrowly.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
