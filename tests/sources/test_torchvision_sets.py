"""torchvision's data sets. The tests write files in the published formats and read them."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torch import nn
from torchvision import datasets

from pipeline.artifacts import ImageSet
from pipeline.config import compose_settings
from pipeline.errors import InputError
from pipeline.resolve import resolve
from pipeline.runner import run as run_pipeline
from pipeline.settings import Settings
from pipeline.sources import source_for
from pipeline.sources.sklearn_digits import scans
from tests.helpers.servers import photograph
from tests.helpers.settings import SMALL
from tests.helpers.stages import fetch


class Reader(nn.Module):
    """A small network for digits of 28 x 28 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, stride=2)
        self.conv2 = nn.Conv2d(6, 10, 3, stride=2)
        self.head = nn.Linear(10, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv2(self.conv1(images).relu()).relu()
        return self.head(maps.mean(dim=(2, 3)))


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST: two zero bytes, the type (8: unsigned byte), the number of axes, their sizes, the values."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, name: str = "MNIST") -> tuple[np.ndarray, np.ndarray]:
    """Write scikit-learn's digits, enlarged to 28 x 28 pixels, as the four files of MNIST."""
    pixels, labels = scans()
    large = np.stack([np.asarray(Image.fromarray(scan).resize((28, 28))) for scan in pixels[:600]])
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part, taken in (("train", slice(0, 500)), ("t10k", slice(500, 600))):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(large[taken]))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels[taken]))
        # The published files are compressed; torchvision decompresses them.
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(idx(large[taken]))
    return large, labels[:600]


def settings(tmp_path: Path, *overrides: str) -> Settings:
    return compose_settings(
        [
            *SMALL, f"paths.outputs={tmp_path / 'outputs'}", "data=torchvision", f"data.root={tmp_path}",
            "data.download=false", *overrides,
        ]
    )  # fmt: skip


def pixels_of(images: ImageSet) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in images.paths]


def test_mnist_is_read_and_ranked_for_a_network_of_the_user(tmp_path: Path) -> None:
    large, labels = write_mnist(tmp_path)
    wanted = settings(
        tmp_path, "data.name=MNIST", "class_name=3", "layer=conv2", "n_images=40",
        "model.factory=tests.sources.test_torchvision_sets:Reader", "model.weights=random",
        "model.input_size=[1,28,28]", "model.class_names=null", "n_components=2",
    )  # fmt: skip
    result = run_pipeline(wanted, tmp_path / "run")
    assert (result.settings.class_name, result.settings.target_class) == ("3", 3)
    assert sorted(result.ranking.table.channel) == list(range(10))
    images: ImageSet = result.artifacts[ImageSet]
    places = np.flatnonzero(labels[:500] == 3)[:40]
    assert [record.id for record in images.records] == [f"MNIST/train/{index}" for index in places]
    for found, index in zip(pixels_of(images), places, strict=True):
        np.testing.assert_array_equal(found, large[index])


def test_a_class_has_a_name_and_an_index_and_the_test_split_is_read(tmp_path: Path) -> None:
    large, labels = write_mnist(tmp_path, "FashionMNIST")
    overrides = ("data.name=FashionMNIST", "model.class_names=null", "n_images=5")
    by_name = resolve(settings(tmp_path, *overrides, "class_name=Trouser"))
    by_index = resolve(settings(tmp_path, *overrides, "class_name=null", "target_class=1"))
    assert by_name.target_class == 1
    assert by_index.class_name == "Trouser"
    images = fetch(resolve(settings(tmp_path, *overrides, "class_name=Trouser", "data.split=test")), tmp_path / "set")
    places = np.flatnonzero(labels[500:] == 1)[:5]
    np.testing.assert_array_equal(np.stack(pixels_of(images)), large[500:][places])


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_the_batches_of_cifar_are_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision accepts only files with known checksums, so the test replaces the known ones."""
    dataset = getattr(datasets, name)
    rng, n_classes = np.random.default_rng(0), 10 if name == "CIFAR10" else 100
    key, names = ("labels", "label_names") if name == "CIFAR10" else ("fine_labels", "fine_label_names")
    folder = tmp_path / dataset.base_folder
    folder.mkdir()
    sums, rows = {}, {}
    for file, _ in dataset.train_list + dataset.test_list:
        rows[file] = rng.integers(0, 256, (300, 3072), dtype=np.uint8)
        (folder / file).write_bytes(pickle.dumps({"data": rows[file], key: [i % n_classes for i in range(300)]}))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    (folder / dataset.meta["filename"]).write_bytes(pickle.dumps({names: [f"class {i}" for i in range(n_classes)]}))
    monkeypatch.setattr(dataset, "train_list", [[file, sums[file]] for file, _ in dataset.train_list])
    monkeypatch.setattr(dataset, "test_list", [[file, sums[file]] for file, _ in dataset.test_list])
    meta_sum = hashlib.md5((folder / dataset.meta["filename"]).read_bytes()).hexdigest()
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": meta_sum})
    wanted = settings(tmp_path, f"data.name={name}", "class_name=class 3", "n_images=5", "data.images_from=balanced")
    images = fetch(wanted, tmp_path / "set")
    assert [record.class_name for record in images.records] == ["class 3", "class 0", "class 3", "class 1", "class 3"]
    first = rows[dataset.train_list[0][0]]
    np.testing.assert_array_equal(pixels_of(images)[0], first[3].reshape(3, 32, 32).transpose(1, 2, 0))


def test_svhn_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 60), dtype=np.uint8)
    labels = np.arange(60) % 10 + 1  # SVHN stores the digit 0 as 10
    savemat(tmp_path / "train_32x32.mat", {"X": pixels, "y": labels[:, None]})
    digest = hashlib.md5((tmp_path / "train_32x32.mat").read_bytes()).hexdigest()
    split_list = {**datasets.SVHN.split_list, "train": ["", "train_32x32.mat", digest]}
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    images = fetch(settings(tmp_path, "data.name=SVHN", "class_name=0", "n_images=5"), tmp_path / "set")
    np.testing.assert_array_equal(pixels_of(images)[1], pixels[..., 19])


def test_imagenet_is_read_and_names_that_occur_twice_are_replaced(tmp_path: Path) -> None:
    wnids = {"n01440764": ("tench", "Tinca tinca"), "n02012849": ("crane",), "n03126707": ("crane",)}
    for place, wnid in enumerate(wnids):
        for index in range(5):
            for folder in (tmp_path / "val" / wnid, tmp_path / "imagenette2-160" / "val" / wnid):
                folder.mkdir(parents=True, exist_ok=True)
                suffix = ".JPEG"
                (folder / f"{wnid}_{index}{suffix}").write_bytes(photograph(10 * place + index))
    (tmp_path / "imagenette2-160" / "train").mkdir()
    torch.save((wnids, []), tmp_path / "meta.bin")
    imagenet = settings(tmp_path, "data.name=ImageNet", "data.split=test", "n_images=5", "class_name=n02012849")
    # Two classes are called crane: their WordNet ids are used instead.
    assert source_for(imagenet.data, tmp_path).class_names() == ("tench", "n02012849", "n03126707")
    images = fetch(imagenet, tmp_path / "set")
    assert images.paths[0].read_bytes() == photograph(10)
    with pytest.raises(InputError) as caught:
        fetch(settings(tmp_path, "data.name=ImageNet", "data.split=train", "n_images=5"), tmp_path / "none")
    assert str(caught.value).startswith(f"data.root must contain torchvision's ImageNet, split train; got {tmp_path} (")


def test_imagenette_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "val"):
        for index in range(5):
            folder = tmp_path / "imagenette2-160" / split / "n01440764"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index}.JPEG").write_bytes(photograph(index))
    images = fetch(settings(tmp_path, "data.name=Imagenette", "class_name=tench", "n_images=5"), tmp_path / "set")
    assert [path.read_bytes() for path in images.paths] == [photograph(index) for index in range(5)]


def test_an_image_folder_is_read_recursively(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for index in range(5):
            folder = tmp_path / "photos" / name / f"batch{index % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index}.png").write_bytes(photograph(index, form="PNG"))
    wanted = settings(tmp_path / "photos", "data.name=ImageFolder", "class_name=dog", "n_images=5")
    assert {record.class_name for record in fetch(wanted, tmp_path / "outside").records} == {"dog"}


def test_the_message_for_a_missing_data_set_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fetch(settings(tmp_path, "data.name=MNIST", "class_name=3"), tmp_path / "set")
    assert str(caught.value) == (
        f"data.root must contain torchvision's MNIST, split train; got {tmp_path} (Dataset not found. You can use "
        "download=True to download it). Set data.download=true, or set data.root."
    )


def test_the_message_for_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(InputError) as caught:
        fetch(settings(tmp_path, "data.name=MNIST", "class_name=3", "data.download=true"), tmp_path / "set")
    assert str(caught.value).startswith("torchvision's MNIST, split train must be downloadable; got ")
    assert "\n" not in str(caught.value)
