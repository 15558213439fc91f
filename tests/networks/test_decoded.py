"""Images are decoded in several threads, once in a run, and during the computation on the batch before."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.config import compose_settings
from pipeline.decoding import decode
from pipeline.errors import InputError
from pipeline.networks import decoded, inputs
from pipeline.networks.decoded import ahead, decoded_once
from pipeline.networks.inputs import FileInputs, Preprocessing, batches


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(7)]
    for index, path in enumerate(paths):
        Image.new("L", (8, 8), 10 * index).save(path)
    return paths


@pytest.fixture
def preprocessing() -> Preprocessing:
    return Preprocessing(compose_settings([]).model)


@pytest.fixture
def n_decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """Count how often each file is decoded, by its content."""
    counts: Counter[bytes] = Counter()

    def counted(data: bytes) -> object:
        counts[data] += 1
        return decode(data)

    monkeypatch.setattr(inputs, "decode", counted)
    return counts


def test_the_next_batch_is_read_while_the_current_one_is_used_and_no_further_one() -> None:
    read, is_second = [], threading.Event()

    def read_batch(batch: int) -> torch.Tensor:
        read.append(batch)
        if batch == 1:
            is_second.set()
        return torch.full((1,), batch)

    reader = ahead(read_batch, range(4))
    assert next(reader) == (0, torch.tensor([0]))
    assert is_second.wait(10)
    assert read == [0, 1]
    assert [(batch, int(images)) for batch, images in reader] == [(1, 1), (2, 2), (3, 3)]
    assert list(ahead(read_batch, [])) == []


def test_an_error_is_raised_for_the_batch_that_cannot_be_read(scans: list[Path], preprocessing: Preprocessing) -> None:
    for index in (4, 3, 6):
        scans[index].write_bytes(b"no image")
    found = batches(FileInputs(scans, preprocessing, torch.device("cpu")), 3)
    assert next(found)[0] == slice(0, 2)
    with pytest.raises(InputError, match=rf"^every image in the store must be decodable; got {scans[3]} \("):
        next(found)


def test_nothing_is_left_running_when_the_consumer_stops(scans: list[Path], preprocessing: Preprocessing) -> None:
    before = threading.active_count()
    found = batches(FileInputs(scans, preprocessing, torch.device("cpu")), 2)
    next(found)
    assert isinstance(found, Generator)
    with pytest.raises(KeyboardInterrupt):
        found.throw(KeyboardInterrupt())
    assert threading.active_count() == before


def test_batches_are_read_with_gradients_as_the_consumer_has_them() -> None:
    def read_batch(batch: int) -> torch.Tensor:
        return torch.tensor(torch.is_grad_enabled())

    with torch.no_grad():
        assert not any(bool(is_grad) for _, is_grad in ahead(read_batch, range(3)))
    assert all(bool(is_grad) for _, is_grad in ahead(read_batch, range(3)))


def test_an_image_is_decoded_once_in_a_run(
    scans: list[Path], preprocessing: Preprocessing, n_decoded: Counter[bytes]
) -> None:
    everything = preprocessing.load(scans)
    with decoded_once():
        with decoded_once():  # a run of several layers is inside another context
            sample = FileInputs(scans, preprocessing, torch.device("cpu")).read(slice(3))
        found = list(batches(FileInputs(scans, preprocessing, torch.device("cpu")), 3))
        assert torch.equal(torch.cat([images for _, images in found]), everything)
        assert torch.equal(sample, everything[:3])
        assert set(n_decoded.values()) == {2}  # one of them was outside of the context
        assert preprocessing.open(scans[0]) is preprocessing.open(scans[0])
        assert n_decoded[scans[0].read_bytes()] == 3  # once as an input, and once at the original size
        larger = Preprocessing(compose_settings(["model.transform.kind=resize", "model.transform.size=9"]).model)
        assert larger.load(scans).shape[-1] == 9  # another network has inputs of its own
    assert preprocessing.open(scans[0]) is not preprocessing.open(scans[0])


def test_the_memory_for_decoded_images_is_bounded(
    scans: list[Path], preprocessing: Preprocessing, n_decoded: Counter[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "KEPT_BYTES", 2 * 8 * 8 * 4 + 1)
    with decoded_once():
        for _ in range(2):
            for path in scans:
                preprocessing.load([path])
    assert [n_decoded[path.read_bytes()] for path in scans] == [1, 1, 2, 2, 2, 2, 2]
