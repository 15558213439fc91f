from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from pipeline.files import copy_whole, whole_file, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_as_utf_8_and_without_changes_to_line_ends(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", "größer\r\nthan\n")
    assert (tmp_path / "text").read_bytes() == "größer\r\nthan\n".encode()


def test_an_existing_file_is_replaced_and_missing_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "data"
    for data in (b"first", b"second, longer", b"3"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert names(path.parent) == ["data"]


def test_a_copy_has_the_content_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(range(256)))
    copy_whole(tmp_path / "source", tmp_path / "folder" / "target")
    assert (tmp_path / "folder" / "target").read_bytes() == bytes(range(256))
    assert names(tmp_path / "folder") == ["target"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "whole", b"")
    plain, whole = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "whole"))
    assert whole == plain


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_a_failure_midway_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(type(error)), whole_file(tmp_path / "file") as temporary:
        temporary.write_text("ne")
        assert (tmp_path / "file").read_text() == "old"
        raise error
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_write_that_fails_leaves_the_old_file(small_disk: Path) -> None:
    write_whole(small_disk / "file", "old")
    with pytest.raises(OSError, match="No space left"):
        write_whole(small_disk / "file", bytes(10 * 2**20))
    assert (small_disk / "file").read_text() == "old"
    assert names(small_disk) == ["file"]


def test_a_copy_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_source: Path, target: Path) -> None:
        target.write_text("half")
        raise OSError("read error")

    (tmp_path / "target").write_text("old")
    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OSError, match="read error"):
        copy_whole(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "old"
    assert names(tmp_path) == ["target"]


def test_a_rename_that_fails_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_whole(tmp_path / "folder", b"data")
    assert names(tmp_path) == ["folder"]


def test_the_temporary_file_may_be_in_another_folder(tmp_path: Path) -> None:
    with whole_file(tmp_path / "kept" / "file", temporary_folder=tmp_path / "parts") as temporary:
        temporary.write_text("data")
        assert temporary.parent == tmp_path / "parts"
        assert not (tmp_path / "kept").exists()
    assert (tmp_path / "kept" / "file").read_text() == "data"
    assert names(tmp_path / "parts") == []


def test_readers_find_one_version_while_several_writers_replace_it(tmp_path: Path) -> None:
    path, versions = tmp_path / "file", [bytes([number]) * 200_000 for number in range(4)]
    write_whole(path, versions[0])

    def write(data: bytes) -> None:
        for _ in range(20):
            write_whole(path, data)

    writers = [threading.Thread(target=write, args=(data,)) for data in versions]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in versions
    assert names(tmp_path) == ["file"]
    assert os.stat(path).st_nlink == 1
