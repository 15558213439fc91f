from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts import Activations, Workspace
from pipeline.artifacts.map_writer import COLLECTED, MapWriter, WritingThread
from pipeline.errors import NetworkError

N_CHANNELS, N_IMAGES, SIDE = 5, 37, 3
IMAGE_BYTES = 4 * N_CHANNELS * SIDE * SIDE


@pytest.fixture
def thread() -> Iterator[WritingThread]:
    with WritingThread() as thread:
        yield thread


def maps_of(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(N_CHANNELS, N_IMAGES, SIDE, SIDE)).astype(np.float32)


def appended(writer: MapWriter, maps: np.ndarray, batch_size: int) -> None:
    for start in range(0, maps.shape[1], batch_size):
        # As PyTorch returns them: by image.
        writer.append(np.ascontiguousarray(maps[:, start : start + batch_size].swapaxes(0, 1)).swapaxes(0, 1))


@pytest.mark.parametrize("n_bytes", [1, 10 * IMAGE_BYTES, 1000 * IMAGE_BYTES], ids=["one", "some", "all"])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_the_maps_do_not_depend_on_how_many_are_collected(
    tmp_path: Path, thread: WritingThread, n_bytes: int, is_mapped: bool
) -> None:
    expected = maps_of(np.random.default_rng(0))
    writer = MapWriter(Workspace(tmp_path if is_mapped else None), "layer", N_IMAGES, "float32", n_bytes, thread)
    appended(writer, expected, 4)
    found, rounding = writer.finish()
    assert rounding is None
    assert isinstance(found, np.memmap) == is_mapped
    np.testing.assert_array_equal(found, expected)
    Activations(found, np.arange(float(N_IMAGES))).save(tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / Activations.MAPS), expected)


def test_half_precision_takes_half_the_space_and_its_error_is_measured(tmp_path: Path, thread: WritingThread) -> None:
    exact = maps_of(np.random.default_rng(1))
    exact[1] = 1000 + 0.1 * exact[1]  # a variation of which half precision keeps nothing
    exact[2] = 0.1  # a dead channel
    exact[3, :, 0, 0] = 0
    writer = MapWriter(Workspace(tmp_path), "layer", N_IMAGES, "float16", 10 * IMAGE_BYTES, thread)
    appended(writer, exact.copy(), 4)
    found, rounding = writer.finish()
    assert rounding is not None
    np.testing.assert_array_equal(found, exact.astype(np.float16))
    Activations(found, np.arange(float(N_IMAGES)), rounding).save(tmp_path)
    assert (tmp_path / Activations.MAPS).stat().st_size == 128 + N_IMAGES * IMAGE_BYTES // 2
    loaded = Activations.load(tmp_path)
    assert loaded.rounding is not None

    errors = np.square(found.astype(np.float64) - exact).mean(axis=1)
    deviations = exact.astype(np.float64).std(axis=1)
    for channel in (0, 1, 4):
        by_hand = np.sqrt((errors[channel] / deviations[channel] ** 2).mean())
        assert loaded.rounding[channel] == pytest.approx(by_hand, rel=1e-6)
    assert loaded.rounding[[0, 4]].max() < 1e-3
    assert loaded.rounding[1] > 0.5
    assert loaded.rounding[2] == 0
    assert loaded.description == (
        f"5 channels of 3 x 3, float16 with errors of up to {loaded.rounding[1]:.2%} of a standard deviation"
    )


def test_values_that_half_precision_does_not_have_are_refused(tmp_path: Path, thread: WritingThread) -> None:
    maps = maps_of(np.random.default_rng(2))
    maps[2, 3, 1, 1] = -70_000
    writer = MapWriter(Workspace(tmp_path), "conv1", N_IMAGES, "float16", 10 * IMAGE_BYTES, thread)
    with pytest.raises(NetworkError) as caught:
        writer.append(maps)
    assert str(caught.value) == (
        "activate.dtype must be float32 for activations above 65504 in magnitude; got float16 with 70000 "
        "(layer 'conv1'). Set activate.dtype=float32."
    )


def test_an_error_in_the_thread_is_raised_and_the_rest_is_not_written(thread: WritingThread) -> None:
    written: list[int] = []

    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    thread.submit(lambda: written.append(0), 1)
    thread.submit(fail, COLLECTED // 2)
    with pytest.raises(OSError, match="No space left"):  # there is no room for more before the first two are written
        thread.submit(lambda: written.append(1), COLLECTED)
    assert written == [0]
    thread.submit(fail, 1)
    with pytest.raises(OSError, match="No space left"):
        thread.finish()
