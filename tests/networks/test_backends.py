"""The settings of PyTorch's backends that decide the last digits are fixed while a network runs, and restored."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import backends, nn

import pcace
from pipeline.config import compose_settings
from pipeline.errors import NetworkError
from pipeline.networks.backends import described_backends, fixed_backends, keyed_backends
from pipeline.networks.load import build

FIXED = (True, False, True, False, "highest", False, True)
NAMES = ("enabled", "benchmark", "deterministic", "allow_tf32")


def found() -> tuple[object, ...]:
    return (*(getattr(backends.cudnn, name) for name in NAMES), torch.get_float32_matmul_precision(),
            backends.cuda.matmul.allow_tf32, backends.mkldnn.enabled)  # fmt: skip


@pytest.fixture
def changed() -> Iterator[tuple[object, ...]]:
    """Change all of the settings, and restore them at the end."""
    before = found()
    backends.cudnn.benchmark, backends.cudnn.enabled = True, False
    torch.set_float32_matmul_precision("high")
    torch._C._set_mkldnn_enabled(False)
    yield found()
    backends.cudnn.benchmark, backends.cudnn.enabled = False, True
    torch.set_float32_matmul_precision("highest")
    torch._C._set_mkldnn_enabled(True)
    assert found() == before


def test_the_settings_are_fixed_inside_the_context_and_restored_after_an_error(changed: tuple[object, ...]) -> None:
    assert changed == (False, True, False, True, "high", True, False)
    with pytest.raises(KeyError), fixed_backends():
        assert found() == FIXED
        raise KeyError
    assert found() == changed


def test_they_are_fixed_until_the_last_of_several_threads_has_finished(changed: tuple[object, ...]) -> None:
    first_is_inside, second_is_inside, first_is_done = (threading.Event() for _ in range(3))

    def first() -> None:
        with fixed_backends():
            first_is_inside.set()
            assert second_is_inside.wait(60)
        first_is_done.set()

    with ThreadPoolExecutor(1) as threads:
        task = threads.submit(first)
        assert first_is_inside.wait(60)
        with fixed_backends():
            second_is_inside.set()
            assert first_is_done.wait(60)
            assert found() == FIXED
        task.result()
    assert found() == changed


def changing() -> nn.Module:
    """A factory that sets what many training scripts set."""
    backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2))


def test_a_factory_cannot_change_them_inside_of_the_context(changed: tuple[object, ...]) -> None:
    model = compose_settings(
        ["model=torchvision", "model.name=own", f"model.factory={__name__}:changing", "model.transform.kind=none"]
    ).model
    with fixed_backends():
        build(model, seed=0)
        assert found() == FIXED
    assert found() == changed


def test_precisions_of_single_operations_are_fixed_and_restored() -> None:
    cudnn: Any = backends.cudnn
    onednn: Any = backends.mkldnn
    settings = found()
    before = cudnn.conv.fp32_precision, onednn.matmul.fp32_precision
    try:
        cudnn.conv.fp32_precision, onednn.matmul.fp32_precision = "ieee", "bf16"
        with fixed_backends():
            assert (cudnn.conv.fp32_precision, onednn.matmul.fp32_precision) == ("ieee", "ieee")
        assert (cudnn.conv.fp32_precision, onednn.matmul.fp32_precision) == ("ieee", "bf16")
    finally:
        cudnn.conv.fp32_precision, onednn.matmul.fp32_precision = before
    assert found() == settings


class Observing(nn.Module):
    """A network that keeps the settings with which it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head, self.seen = nn.Conv2d(1, 4, 3), nn.Linear(4, 2), set[tuple[object, ...]]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.add(found())
        return self.head(self.conv(images).relu().mean(dim=(2, 3)))


def test_a_ranking_in_python_runs_with_them_and_leaves_those_of_the_program(changed: tuple[object, ...]) -> None:
    torch.manual_seed(0)
    network = Observing()
    pcace.rank(network, torch.rand(20, 1, 6, 6), "conv", 1, n_components=1, permutations=0, bootstrap=0, progress=False)
    assert network.seen == {FIXED}
    assert found() == changed


def test_they_are_described_for_people() -> None:
    assert described_backends()["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert described_backends()["float32"] == "matmul precision highest, TF32 False (fixed during a run)"


def test_other_devices_than_cpu_and_cuda_are_refused() -> None:
    with pytest.raises(NetworkError) as caught:
        pcace.rank(Observing().to("meta"), torch.rand(20, 1, 6, 6), "conv", 1)
    assert str(caught.value) == "model must be on a CPU or a CUDA GPU; got meta. Call model.cpu() first."


def test_deterministic_algorithms_are_part_of_the_key_on_a_gpu_only() -> None:
    assert keyed_backends("cuda") == {}
    torch.use_deterministic_algorithms(True)
    try:
        assert keyed_backends("cuda") == {"deterministic_algorithms": True}
        assert keyed_backends("cpu") == {}
    finally:
        torch.use_deterministic_algorithms(False)
