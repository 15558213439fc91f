from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.store import ArtifactKey, Store, artifact_key, description

KEY = artifact_key("reduce", 1, {"n_components": 3}, {})
LOCK = str(KEY).replace("/", "-")


def writing(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "values.txt").write_text(text)


def filled(store: Store, key: ArtifactKey = KEY, text: str = "values") -> Path:
    folder, is_cached = store.obtain(key, writing(text))
    assert not is_cached
    assert store.find(key) == folder
    return folder


def test_an_artifact_is_found_and_described(tmp_path: Path) -> None:
    folder = filled(Store(tmp_path))
    description = json.loads((folder / "artifact.json").read_text())
    assert (description["stage"], description["digest"]) == ("reduce", KEY.digest)
    assert description["made_from"] == {"stage": "reduce", "version": 1, "reads": {"n_components": 3}, "upstream": {}}
    digest = hashlib.sha256(b"values").hexdigest()
    assert description["files"] == {"values.txt": {"size": 6, "sha256": digest}}


def test_an_artifact_that_was_not_computed_is_not_found(tmp_path: Path) -> None:
    assert Store(tmp_path / "never").find(KEY) is None


def test_an_inner_store_does_not_read_again_what_the_outer_one_has_returned(tmp_path: Path) -> None:
    other = artifact_key("reduce", 1, {"n_components": 4}, {})
    with Store(tmp_path) as outer:
        folder, of_other = filled(outer), filled(Store(tmp_path), other)
        (folder / "values.txt").write_text("others")
        (of_other / "values.txt").write_text("others")
        with outer.inner() as middle, middle.inner() as inner:
            assert inner.obtain(KEY, writing("values")) == (folder, True)
            assert inner.find(other) is None
        assert outer.knows(KEY)
        assert not outer.knows(other)
    assert outer.find(KEY) is None
    assert not outer.knows(KEY)


def test_a_failure_leaves_no_files(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("written")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.obtain(KEY, fail)
    assert store.find(KEY) is None
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [LOCK]


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncate": (lambda folder: os.truncate(folder / "values.txt", 2), "values.txt has 2 bytes instead of 6"),
    "grow": (lambda folder: os.truncate(folder / "values.txt", 9), "values.txt has 9 bytes instead of 6"),
    "remove": (
        lambda folder: (folder / "values.txt").unlink(),
        "values.txt cannot be read (No such file or directory)",
    ),
    "flip": (lambda folder: flip(folder / "values.txt", 3), "values.txt does not match its checksum"),
    "describe": (lambda folder: (folder / "artifact.json").write_text("{"), "artifact.json cannot be read"),
    "redescribe": (
        lambda folder: flip(folder / "artifact.json", (folder / "artifact.json").read_bytes().index(b"20")),
        "artifact.json does not match its checksum",
    ),
}


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_artifact_is_reported_and_computed_again(tmp_path: Path, damage: str) -> None:
    notes: list[str] = []
    store = Store(tmp_path, notes.append)
    do, reason = DAMAGE[damage]
    do(filled(store))
    assert store.find(KEY) is None
    assert (filled(store, text="again") / "values.txt").read_text() == "again"
    assert notes == [f"{KEY} is damaged: {reason}. It is computed again."]


def test_the_artifact_of_another_key_is_not_accepted(tmp_path: Path) -> None:
    store, other = Store(tmp_path), artifact_key("reduce", 1, {"n_components": 4}, {})
    filled(store, other).rename(tmp_path / str(KEY))
    assert store.find(KEY) is None


def test_a_sample_of_large_files_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "FULLY_CHECKED_BYTES", 2**20)
    store, size = Store(tmp_path), 8 * 2**20
    folder, _ = store.obtain(KEY, lambda folder: (folder / "maps.npy").write_bytes(os.urandom(size)))
    assert store.find(KEY) == folder
    for position in (0, size - 1):
        flip(folder / "maps.npy", position)
        assert store.find(KEY) is None
        flip(folder / "maps.npy", position)
    assert store.find(KEY) == folder


def test_one_thread_computes_an_artifact_and_the_others_wait(tmp_path: Path) -> None:
    made: list[Path] = []
    notes: list[str] = []
    found: list[tuple[str, bool]] = []
    all_wait = threading.Event()

    def make(folder: Path) -> None:
        made.append(folder)
        assert all_wait.wait(60)
        (folder / "values.txt").write_text("the same")

    def note(text: str) -> None:
        notes.append(text)
        if len(notes) == 3:
            all_wait.set()

    def want() -> None:
        with Store(tmp_path, note) as store:
            folder, is_cached = store.obtain(KEY, make)
            found.append(((folder / "values.txt").read_text(), is_cached))

    wanting = [threading.Thread(target=want) for _ in range(4)]
    wanting[0].start()
    while not made:
        time.sleep(0.01)
    for thread in wanting[1:]:
        thread.start()
    for thread in wanting:
        thread.join()
    assert len(made) == 1
    assert sorted(found) == [("the same", False)] + [("the same", True)] * 3
    assert len(notes) == 3
    assert all(note.startswith(f"{KEY} is being computed by process {os.getpid()} on ") for note in notes)
    assert list((tmp_path / "tmp").iterdir()) == []


def _compute_without_end(root: Path, ready: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_text("written")
        ready.touch()
        time.sleep(600)

    Store(root).obtain(KEY, fill)


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    owner = multiprocessing.get_context("spawn").Process(
        target=_compute_without_end, args=(tmp_path / "store", tmp_path / "ready")
    )
    owner.start()
    while not (tmp_path / "ready").exists():
        assert owner.is_alive()
        time.sleep(0.01)
    assert owner.pid is not None
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    notes: list[str] = []
    folder = filled(Store(tmp_path / "store", notes.append))
    assert sorted(path.name for path in folder.iterdir()) == ["artifact.json", "values.txt"]
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
    assert notes == []


def test_the_message_for_a_full_disk_is_one_line(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError) as caught:
        store.obtain(KEY, fail)
    assert str(caught.value) == (
        f"the disk must have room for the reduce stage; got a full disk ({tmp_path}). Free some space or set "
        "paths.outputs to another disk, and run again: finished stages are kept."
    )
    assert store.find(KEY) is None


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"^paths\.outputs must be a writable folder; got "):
        filled(Store(tmp_path / "file"))


def test_maps_that_do_not_fit_on_the_disk_raise_an_error(small_disk: Path) -> None:
    from pipeline.artifacts import Workspace

    def fill(folder: Path) -> None:
        Workspace(folder).empty("maps.npy", (8, 8, 200, 200))[:] = 1.0

    store = Store(small_disk)
    # Without reserving the space first, writing to the memory map would end this process with SIGBUS.
    with pytest.raises(StorageError, match=r"^the disk must have room for the reduce stage; got a full disk"):
        store.obtain(KEY, fill)
    assert store.find(KEY) is None
    assert filled(store).is_dir()


def test_arrays_that_do_not_fit_on_the_disk_raise_an_error(small_disk: Path) -> None:
    import numpy as np

    from pipeline.artifacts import save_array

    with pytest.raises(StorageError, match=r"^the disk must have room for the reduce stage; got a full disk"):
        Store(small_disk).obtain(KEY, lambda folder: save_array(folder / "values.npy", np.ones(10**6)))
