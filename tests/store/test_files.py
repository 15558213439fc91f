from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.store import ArtifactKey, Store, artifact_key

KEY = artifact_key("reduce", 1, {"n_components": 3}, {})


def filled(store: Store, key: ArtifactKey = KEY, text: str = "values") -> Path:
    with store.create(key) as folder:
        (folder / "values.txt").write_text(text)
    found = store.find(key)
    assert found is not None
    return found


def test_what_is_created_is_found_and_described(tmp_path: Path) -> None:
    folder = filled(Store(tmp_path))
    description = json.loads((folder / "artifact.json").read_text())
    assert (description["stage"], description["version"], description["reads"]) == ("reduce", 1, {"n_components": 3})
    digest = hashlib.sha256(b"values").hexdigest()
    assert description["files"] == {"values.txt": {"size": 6, "sha256": digest}}


def test_nothing_is_found_before(tmp_path: Path) -> None:
    assert Store(tmp_path / "never").find(KEY) is None


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError), store.create(KEY) as folder:
        (folder / "half").write_text("written")
        raise ZeroDivisionError
    assert store.find(KEY) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("harm", ["truncate", "remove", "describe"])
def test_an_incomplete_artifact_is_not_found_and_is_replaced(tmp_path: Path, harm: str) -> None:
    store = Store(tmp_path)
    folder = filled(store)
    if harm == "truncate":
        os.truncate(folder / "values.txt", 2)
    elif harm == "remove":
        (folder / "values.txt").unlink()
    else:
        (folder / "artifact.json").write_text("{")
    assert store.find(KEY) is None
    assert (filled(store, text="anew") / "values.txt").read_text() == "anew"


def test_of_two_writers_the_second_finds_the_firsts(tmp_path: Path) -> None:
    store, barrier, errors = Store(tmp_path), threading.Barrier(2), []

    def write() -> None:
        try:
            with store.create(KEY) as folder:
                (folder / "values.txt").write_text("the same")
                barrier.wait(timeout=30)
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    found = store.find(KEY)
    assert found is not None
    assert (found / "values.txt").read_text() == "the same"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StorageError) as caught, store.create(KEY):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value) == (
        f"the disk must have room for the reduce stage; it is full ({tmp_path}). Free some space, or set "
        "paths.outputs to another disk, and run again: what is finished stays."
    )
    assert store.find(KEY) is None


def test_a_store_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"^paths\.outputs must be a folder that can be written to; got "):
        filled(Store(tmp_path / "file"))


@pytest.fixture
def small_disk(tmp_path: Path):
    """A real file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_maps_that_do_not_fit_the_disk_are_refused_not_fatal(small_disk: Path) -> None:
    from pipeline.artifacts import create_maps

    store = Store(small_disk)
    # Without taking the space first, writing into the map would kill this process with SIGBUS.
    refused = pytest.raises(StorageError, match=r"^the disk must have room for the reduce stage; it is full")
    with refused, store.create(KEY) as folder:
        create_maps(folder, (8, 8, 100, 100))[:] = 1.0
    assert store.find(KEY) is None
    assert filled(store).is_dir()
