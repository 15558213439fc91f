"""Images and maps that are too large for the memory are in temporary files, of which nothing is left behind."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

import pcace
from pcace import _memory, _temporary
from pcace._images import collected
from pcace._temporary import StoredTensors, TemporaryWorkspace

N_IMAGES = 150
QUICK: dict[str, Any] = {"ranker": "gradient_x_activation", "bootstrap": 0, "progress": False}


class Images(Dataset[torch.Tensor]):
    """Single images, which are made when they are read."""

    def __init__(self, n_images: int = N_IMAGES) -> None:
        self.n_images = n_images

    def __len__(self) -> int:
        return self.n_images

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(index))


class Stream(IterableDataset[torch.Tensor]):
    """The same images, without a length."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return map(Images().__getitem__, range(N_IMAGES))


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let 10,000 bytes be too large for the memory, and return the folder of temporary files."""
    monkeypatch.setattr(_temporary, "MOST_IN_MEMORY", 10_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def in_memory(network: nn.Module) -> pcace.Ranking:
    ranking = pcace.rank(network, torch.stack(list(map(Images().__getitem__, range(N_IMAGES)))), "0", 1, **QUICK)
    assert not isinstance(ranking.activations.maps, np.memmap)
    return ranking


FORMS: dict[str, Callable[[], object]] = {
    "dataset": Images,
    "loader": lambda: DataLoader(Images(), batch_size=7),
    "stream": Stream,
    "batches": lambda: (Images()[index][None] for index in range(N_IMAGES)),
}


@pytest.mark.parametrize("form", FORMS)
def test_large_images_and_maps_give_the_same_ranking(
    form: str, network: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = in_memory(network)
    monkeypatch.setattr(_temporary, "MOST_IN_MEMORY", 10_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = pcace.rank(network, FORMS[form](), "0", 1, **QUICK)
    assert isinstance(found.activations.maps, np.memmap)
    assert found.activations.maps.tobytes() == expected.activations.maps.tobytes()
    assert found.to_frame().equals(expected.to_frame())
    assert found.images == expected.images
    assert os.listdir(tmp_path) == []
    for each, name in ((expected, "a"), (found, "b")):
        each.save(tmp_path / name)
    saved = [(tmp_path / name / "activations" / "maps.npy").read_bytes() for name in ("a", "b")]
    assert saved[0] == saved[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_images_in_the_file_are_those_that_were_read(
    dtype: torch.dtype, network: nn.Module, temporary: Path
) -> None:
    batches = [torch.rand(30, 1, 8, 8).to(dtype) for _ in range(6)]
    held = collected(
        (each.to(memory_format=torch.channels_last) for each in batches), network,
        transform=None, n_images=None, progress=lambda done, total: None,
    ).held  # fmt: skip
    assert isinstance(held, StoredTensors)
    assert len(held) == 180
    assert os.listdir(temporary) == []
    together = torch.cat(batches)
    for part in (slice(None), slice(1), slice(29, 95), slice(170, 400), slice(5, 5)):
        assert torch.equal(held.read(part), together[part])
        assert held.read(part).dtype == dtype


def test_one_tensor_of_all_images_is_not_copied(network: nn.Module, temporary: Path) -> None:
    images = torch.rand(200, 1, 8, 8)
    for given in (images, images.numpy(), (images, torch.zeros(200)), {"images": images}):
        inputs = collected(given, network, transform=None, n_images=None, progress=lambda done, total: None)
        assert not isinstance(inputs.held, StoredTensors)
        assert inputs.held.parts[0].data_ptr() == images.data_ptr()


def test_a_memory_mapped_array_is_not_read_as_a_whole(network: nn.Module, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((50, 1, 8, 8), dtype=np.float32))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    inputs = collected(mapped, network, transform=None, n_images=None, progress=lambda done, total: None)
    assert not isinstance(inputs.held, StoredTensors)
    assert inputs.held.parts[0].data_ptr() == mapped.ctypes.data
    assert pcace.rank(network, mapped, "0", 1, **QUICK).n_images == 50


def test_nothing_is_left_behind_by_an_interruption(network: nn.Module, temporary: Path) -> None:
    def batches(n_batches: int) -> Iterator[torch.Tensor]:
        for index in range(n_batches):
            yield torch.rand(70, 1, 8, 8, generator=torch.Generator().manual_seed(index))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pcace.rank(network, batches(2), "0", 1, **QUICK)
    assert os.listdir(temporary) == []


def test_a_full_disk_is_reported(network: nn.Module, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(pcace.PipelineError) as caught:
        pcace.rank(network, Images(), "0", 1, **QUICK)
    assert str(caught.value) == (
        f"the disk must have room for the maps of the layer, too large for the memory; got a full disk ({temporary}). "
        "Free some space, or set the environment variable TMPDIR to a folder on another disk."
    )
    assert os.listdir(temporary) == []


def test_images_of_worker_processes_do_not_keep_files_open(network: nn.Module) -> None:
    n_open = len(os.listdir("/proc/self/fd"))
    inputs = collected(
        DataLoader(Images(), batch_size=1, num_workers=1), network,
        transform=None, n_images=None, progress=lambda done, total: None,
    )  # fmt: skip
    assert len(inputs) == N_IMAGES
    assert len(os.listdir("/proc/self/fd")) < n_open + N_IMAGES // 4


def test_what_is_large_depends_on_the_memory_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_temporary, "available", lambda: None)
    assert [_temporary.is_large(size) for size in (2**30, 2**30 + 1)] == [False, True]
    monkeypatch.setattr(_temporary, "available", lambda: 4000)
    assert [_temporary.is_large(size) for size in (1000, 1001)] == [False, True]


def test_the_maps_of_several_layers_are_large_together(temporary: Path) -> None:
    shape = (2, 500, 2, 1)  # 8,000 bytes
    assert not isinstance(TemporaryWorkspace().empty("maps.npy", shape), np.memmap)
    assert isinstance(TemporaryWorkspace(n_layers=2).empty("maps.npy", shape), np.memmap)


def test_the_limit_of_a_container_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(_memory, "_of_machine", lambda: 10**12)
    assert _memory.available() == 10**12
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 300000\nfile 400000\nshmem 50000\n")
    assert _memory.available() == 650_000
    (tmp_path / "memory.max").write_text("max\n")
    assert _memory.available() == 10**12
