"""Artifacts that are computed together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.store import ArtifactKey, Store, artifact_key

KEYS = [artifact_key("activate", 1, {"layer": layer}, {}) for layer in ("a", "b", "c")]


def fill_all_but(*left_out: ArtifactKey):  # type: ignore[no-untyped-def]
    calls: list[list[str]] = []

    def fill(folders: Mapping[str, Path]) -> list[str]:
        calls.append(list(folders))
        for key, folder in folders.items():
            (folder / "file").write_text(key)
        return [key for key in folders if key not in map(str, left_out)]

    return fill, calls


def test_only_missing_artifacts_are_computed_and_all_at_once(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.obtain(KEYS[1], lambda folder: (folder / "file").write_text("earlier"))
        fill, calls = fill_all_but()
        found = store.obtain_all(KEYS, fill)
    assert calls == [sorted([str(KEYS[0]), str(KEYS[2])])]
    assert {key: (folder / "file").read_text() for key, folder in found.items()} == {
        str(KEYS[0]): str(KEYS[0]), str(KEYS[1]): "earlier", str(KEYS[2]): str(KEYS[2])
    }  # fmt: skip


def test_artifacts_that_could_not_be_computed_are_not_kept(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        fill, calls = fill_all_but(KEYS[2])
        assert set(store.obtain_all(KEYS, fill)) == {str(KEYS[0]), str(KEYS[1])}
        assert store.find(KEYS[2]) is None
        store.obtain_all(KEYS, fill)
    assert calls[1] == [str(KEYS[2])]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_error_leaves_no_incomplete_artifact(tmp_path: Path) -> None:
    def fail(folders: Mapping[str, Path]) -> list[str]:
        (folders[str(KEYS[0])] / "file").write_text("half")
        raise KeyboardInterrupt

    with Store(tmp_path) as store:
        with pytest.raises(KeyboardInterrupt):
            store.obtain_all(KEYS, fail)
        assert [store.find(key) for key in KEYS] == [None] * 3
    assert list((tmp_path / "tmp").iterdir()) == []
