"""Links and files in the folders of the store that it did not write, and file systems without locks."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import ChannelScores, Figures, ImageSet
from pipeline.dvc import _publish
from pipeline.errors import StorageError
from pipeline.store import ArtifactKey, Store, artifact_key
from pipeline.store.housekeeping import collect, entries
from pipeline.tracking.connection import connect
from tests.helpers.servers import photograph

KEY = artifact_key("visualize", 1, {"dpi": 150}, {})


def obtained(store: Store, text: str = "values", key: ArtifactKey = KEY) -> tuple[Path, bool]:
    return store.obtain(key, lambda folder: (folder / "values.txt").write_text(text))


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """An artifact that was moved to another disk; a link in the store leads to it."""
    with Store(tmp_path / "store") as store:
        folder, _ = obtained(store)
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    os.utime(elsewhere, (1, 1))
    return elsewhere


def test_an_artifact_behind_a_link_is_used(tmp_path: Path, linked: Path) -> None:
    assert obtained(Store(tmp_path / "store"))[1]
    assert linked.stat().st_mtime == 1


def test_a_damaged_artifact_behind_a_link_is_replaced_and_the_target_is_not_touched(
    tmp_path: Path, linked: Path
) -> None:
    (linked / "values.txt").write_text("damage")
    folder, is_cached = obtained(Store(tmp_path / "store"), "again")
    assert not is_cached
    assert not folder.is_symlink()
    assert (folder / "values.txt").read_text() == "again"
    assert (linked / "values.txt").read_text() == "damage"


def test_the_removal_of_an_artifact_behind_a_link_removes_the_link_only(tmp_path: Path, linked: Path) -> None:
    store = Store(tmp_path / "store")
    (entry,) = entries(store)
    assert (entry.size, entry.damage) == (0, None)
    (store.root / "tmp" / "score-0123").symlink_to(linked)  # a leftover
    collect(store, keep=-1)
    assert list(entries(store)) == []
    assert list((store.root / "tmp").iterdir()) == []
    assert (linked / "values.txt").read_text() == "values"


@pytest.mark.parametrize(
    "put", [lambda path: path.write_text("in the way"), lambda path: path.symlink_to("nowhere")], ids=["file", "link"]
)
@pytest.mark.parametrize("place", [str(KEY), f"tmp/{str(KEY).replace('/', '-')}"])
def test_what_lies_in_the_place_of_an_artifact_is_replaced(
    tmp_path: Path, put: Callable[[Path], object], place: str
) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    put(tmp_path / place)
    assert not obtained(Store(tmp_path))[1]
    assert obtained(Store(tmp_path))[1]


def test_a_stage_on_another_disk_is_refused_in_one_line(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "visualize").symlink_to(small_disk)
    with pytest.raises(StorageError) as caught:
        obtained(Store(tmp_path / "store"))
    assert str(caught.value) == (
        f"the store must be on one file system; got folders on several ({tmp_path / 'store'}). Set paths.outputs to a "
        "folder on the other disk, instead of linking a folder inside the store."
    )


def foreign(folder: Path, tmp_path: Path) -> None:
    """Put files into the folder of an artifact that do not belong to it."""
    (tmp_path / "secret.png").write_bytes(photograph(0, form="PNG"))
    (folder / "extra.png").symlink_to(tmp_path / "secret.png")
    (folder / "channels").mkdir(exist_ok=True)
    (folder / "channels" / "notes.png").write_bytes(b"not a channel")
    (folder / "channels" / ".DS_Store").touch()


def test_figures_are_those_of_the_description(tmp_path: Path) -> None:
    def draw(folder: Path) -> None:
        (folder / "channels").mkdir()
        for name in ("cam.png", "channels/001_48.png", "channels/002_17.png"):
            (folder / name).write_bytes(photograph(1, form="PNG"))
        Figures(folder).save(folder)

    store = Store(tmp_path / "store")
    folder, _ = store.obtain(KEY, draw)
    before = Figures.load(folder)
    expected = (before.paths, before.cards, before.all_pictures)
    assert [list(map(str, each)) for each in expected[:2]] == [[str(folder / "cam.png")], ["48", "17"]]
    foreign(folder, tmp_path)
    assert store.find(KEY) == folder
    found = Figures.load(folder)
    assert (found.paths, found.cards, found.all_pictures) == expected
    _publish(folder, tmp_path / "dvc")
    names = {path.name for path in (tmp_path / "dvc").rglob("*") if path.is_file()}
    assert names == {"cam.png", "001_48.png", "002_17.png", "notes.txt"}


def test_foreign_files_with_the_names_of_optional_ones_are_not_read(tmp_path: Path) -> None:
    scores = ChannelScores(
        {"pearson": np.zeros(2)},
        np.zeros(2, bool),
        {"pearson": pd.DataFrame(index=range(2))},
        {"pearson": np.zeros((0, 2))},
    )
    folder, _ = Store(tmp_path).obtain(KEY, scores.save)
    for name in ("phi.npy", "smoothness.json"):
        (folder / name).write_bytes(b"nonsense")
    loaded = ChannelScores.load(folder)
    assert (loaded.fit, loaded.smoothness) == (None, None)

    images = artifact_key("download", 1, {}, {})
    folder, _ = Store(tmp_path).obtain(images, lambda folder: ImageSet(folder, ()).save(folder))
    (folder / "report.csv").write_text("nonsense")
    (folder / "copies.csv").write_text("nonsense")
    assert ImageSet.load(folder).report is None


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.__getitem__)
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system on which `flock` fails; returns the reason."""
    number: int = request.param

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    return os.strerror(number)


def test_a_file_system_without_locks_is_refused_in_one_line(tmp_path: Path, without_locks: str) -> None:
    store = Store(tmp_path / "store")

    def expected(folder: Path) -> str:
        return (
            f"paths.outputs must be on a file system with locks (flock); got {folder} ({without_locks}). Set "
            "paths.outputs to a folder on a local disk, or have the file system mounted with locks (NFS 4; Lustre with "
            "the option flock)."
        )

    (store.root / "tmp" / "score-0123").mkdir(parents=True)
    attempts: list[tuple[Callable[[], object], Path]] = [
        (lambda: obtained(store), store.root / "locks"),
        (lambda: collect(store, 0), store.root / "locks"),
        (lambda: connect(tmp_path / "outputs", None, "pcace"), tmp_path / "outputs"),
    ]
    for attempt, folder in attempts:
        with pytest.raises(StorageError) as caught:
            attempt()
        assert str(caught.value) == expected(folder)


def test_an_artifact_cannot_be_used_on_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = obtained(Store(tmp_path))

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(StorageError, match=r"^paths\.outputs must be on a file system with locks \(flock\); got "):
        Store(tmp_path).find(KEY)
    assert len(list(Path("/proc/self/fd").iterdir())) == n_open
    assert folder.is_dir()
