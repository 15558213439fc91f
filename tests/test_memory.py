"""Batches that do not fit into the memory are halved, and results are stored under the size that was used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import pcace
from pipeline.artifacts import Activations
from pipeline.errors import MemoryExceededError, is_out_of_memory
from pipeline.networks.digits import DigitsCNN
from pipeline.observer import Observer
from pipeline.records import Record, RecordingObserver
from pipeline.resolve import resolve
from pipeline.runner import LAYER_STAGES, STAGES, Execution, in_fitting_batches, run, store_of
from pipeline.settings import Settings
from pipeline.whole_network import NetworkExecution, run_network
from tests.helpers.settings import Compose

GPU = "CUDA out of memory. Tried to allocate 2.00 GiB"
CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
CPU = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"


class Noting(Observer):
    """Keeps the messages of a run."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, text: str) -> None:
        self.notes.append(text)


@contextmanager
def limited(network: type[nn.Module], most: int, error: Callable[[], Exception]) -> Iterator[list[int]]:
    """Let the networks of a class fail for more images than `most`, and yield the numbers of images that fitted."""
    sizes: list[int] = []
    forward = network.forward

    def limited_forward(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        if len(images) > most and images.device.type != "meta":
            raise error()
        sizes.append(len(images))
        found: torch.Tensor = forward(self, images)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "forward", limited_forward)
        yield sizes


@pytest.mark.parametrize(
    "error", [lambda: torch.OutOfMemoryError(GPU), lambda: RuntimeError(CPU), lambda: RuntimeError(CUBLAS)]
)
def test_errors_of_memory_are_recognised(error: Callable[[], Exception]) -> None:
    assert is_out_of_memory(error())
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def obtained(settings: Settings, _run_dir: object = None, observers: object = ()) -> dict[str, bytes]:
    """Compute the activations, and return their files."""
    del observers
    with store_of(settings) as store:
        execution = Execution(settings, store)
        execution.obtain(STAGES[1])
        folder = execution.artifacts.folders[Activations]
        return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


def test_a_run_goes_on_with_smaller_batches_under_the_key_of_their_size(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, noting = compose(f"paths.outputs={tmp_path / 'one'}"), Noting()  # 20 images, in one batch
    monkeypatch.setattr("pipeline.runner._run", obtained)
    with limited(DigitsCNN, 8, lambda: torch.OutOfMemoryError(GPU)) as sizes:
        found: object = run(settings, tmp_path / "run", [noting])
    assert max(sizes) == 5
    start = f"A batch of images does not fit into the memory (OutOfMemoryError: {GPU}"
    assert [text.partition(f" ({__file__}:")[0] for text in noting.notes] == [start, start]
    assert [text.partition(", input of ")[2] for text in noting.notes] == [
        f"shape ({n}, 1, 8, 8))). The run continues with model.batch_size={n // 2}, which changes the last digits; "
        "finished stages that do not depend on it are kept."
        for n in (20, 10)
    ]
    small = resolve(compose(f"paths.outputs={tmp_path / 'one'}", "model.batch_size=5"))
    large = resolve(settings)
    with store_of(small) as store:
        assert Execution(small, store).is_stored(STAGES[1])
        assert not Execution(large, store).is_stored(STAGES[1])
        assert Execution(large, store).is_stored(STAGES[0])
    assert found == obtained(resolve(compose(f"paths.outputs={tmp_path / 'other'}", "model.batch_size=5")))


def test_an_image_that_does_not_fit_ends_the_run(compose: Compose, tmp_path: Path) -> None:
    settings, noting = resolve(compose(f"paths.outputs={tmp_path}")), Noting()

    def fail(given: Settings) -> None:
        raise MemoryExceededError(
            f"a batch must fit into the memory; got {given.model.batch_size}. Lower model.batch_size."
        )

    with pytest.raises(MemoryExceededError, match=r"got 1\. Lower model\.batch_size\.$"):
        in_fitting_batches(settings, [noting], fail)
    assert [text.partition("batch_size=")[2].partition(",")[0] for text in noting.notes] == ["10", "5", "2", "1"]


def test_a_network_of_several_layers_goes_on_with_smaller_batches(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noting, record = Noting(), Record()
    settings = compose(
        f"paths.outputs={tmp_path}", "layer=[conv1,relu1]", "score=gradient_x_activation", "score.bootstrap=0",
        "network.disk_gib=1",
    )  # fmt: skip
    stages = tuple(stage for stage in LAYER_STAGES if stage.name not in ("ablate", "evaluate", "visualize"))
    monkeypatch.setattr(NetworkExecution.__init__, "__defaults__", ((), stages))
    monkeypatch.setattr("pipeline.whole_network.publish_network", lambda result: None)
    with limited(DigitsCNN, 12, lambda: RuntimeError(CPU)):
        result = run_network(settings, tmp_path / "run", [noting, RecordingObserver(record)])
    assert len(noting.notes) == 1
    assert record.batch_sizes == [settings.model.batch_size, 10]
    assert result.settings.model.batch_size == 10
    assert result.ranking.layers.layer.tolist() == ["conv1", "relu1"]


class Small(nn.Module):
    """A network with one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.conv(images).relu().mean(dim=(2, 3)))
        return found


def test_a_ranking_in_python_goes_on_with_smaller_batches_and_warns() -> None:
    torch.manual_seed(0)
    network, images = Small(), torch.rand(24, 1, 6, 6)
    given: dict[str, Any] = {"n_components": 1, "permutations": 0, "bootstrap": 0, "progress": False}

    def rank(**settings: object) -> pcace.Ranking:
        return pcace.rank(network, images, "conv", 1, settings={"ablate.when": "never", **settings}, **given)

    with (
        limited(Small, 12, lambda: torch.OutOfMemoryError(GPU)) as sizes,
        pytest.warns(UserWarning, match=r"does not fit into the memory .* continues with batch_size=12, ") as warned,
    ):
        found = rank()
    assert (len(warned), max(sizes)) == (1, 12)
    assert warned[0].filename == __file__
    assert found.settings.model.batch_size == 12
    pd.testing.assert_frame_equal(found.to_frame(), rank(**{"model.batch_size": 12}).to_frame(), check_exact=True)
