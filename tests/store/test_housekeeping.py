from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SettingsError
from pipeline.store import ArtifactKey, Store, artifact_key
from pipeline.store.__main__ import formatted_size, main, size_in_bytes
from pipeline.store.housekeeping import collect, entries

READS = {"network": {"name": "digits_cnn", "weights": "f" * 64}, "layer": "conv1", "dtype": "float32"}


def key(number: int) -> ArtifactKey:
    return artifact_key("activate", 1, {**READS, "target_class": number}, {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four artifacts of 1,000 bytes, of which the first is the least recently used."""
    store = Store(tmp_path / "store")
    with store:
        for number in range(4):
            folder, _ = store.obtain(key(number), lambda folder: (folder / "maps").write_bytes(b"1" * 1000))
            os.utime(folder, (number, number))
    return store


def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: Store, *arguments: str
) -> tuple[Any, list[str], list[str]]:
    outputs = f"paths.outputs={store.root.parent}"
    monkeypatch.setattr(sys, "argv", ["store", *arguments, outputs])
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    return end.value.code, captured.out.splitlines(), captured.err.splitlines()


def test_the_least_recently_used_artifacts_are_removed(store: Store) -> None:
    size = next(entries(store)).size
    removed, in_use = collect(store, keep=2 * size + 100)  # the sizes of the descriptions differ by a few bytes
    assert [entry.name for entry in removed] == [str(key(0)), str(key(1))]
    assert in_use == []
    assert {entry.name for entry in entries(store)} == {str(key(2)), str(key(3))}
    assert list(store.root.glob("tmp/*")) == []


def test_finding_an_artifact_counts_as_use(store: Store) -> None:
    store.find(key(0))
    removed, _ = collect(store, keep=3 * next(entries(store)).size + 100)
    assert [entry.name for entry in removed] == [str(key(1))]


def test_artifacts_in_use_are_not_removed(store: Store) -> None:
    with Store(store.root) as used:
        used.find(key(1))
        removed, in_use = collect(store, keep=0)
        assert [entry.name for entry in in_use] == [str(key(1))]
        assert len(removed) == 3
    removed, in_use = collect(store, keep=0)
    assert [entry.name for entry in removed] == [str(key(1))]


def test_incomplete_artifacts_of_killed_runs_are_removed(store: Store) -> None:
    (store.root / "tmp" / "score-0123").mkdir(parents=True)
    collect(store, keep=2**40)
    assert list(store.root.glob("tmp/*")) == []
    assert len(list(entries(store))) == 4


def test_the_commands(store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = call(capsys, monkeypatch, store, "ls")
    assert (code, err) == (0, [])
    assert out[0].split() == ["artifact", "size", "duration", "last", "used", "computed", "from"]
    assert out[1].split()[0].startswith("activate/")
    computed_from = out[1].split()[7:]
    assert computed_from[:3] == ["name=digits_cnn", "weights=ffffffff", "layer=conv1"]
    assert computed_from[3].startswith("target_class=")
    assert out[-1].startswith("4 artifacts, ")

    assert call(capsys, monkeypatch, store, "verify")[0] == 0
    (store.root / str(key(2)) / "maps").write_bytes(b"2" * 1000)
    code, out, _ = call(capsys, monkeypatch, store, "verify")
    assert code == 1
    assert out == [
        f"{key(2)} is damaged: maps does not match its checksum. The next run that needs it computes it again.",
        f"3 of 4 artifacts match their checksums ({store.root}).",
    ]

    code, out, _ = call(capsys, monkeypatch, store, "rm", str(key(2))[:15])
    assert code == 0
    assert out[0].startswith(f"removed {key(2)} (")
    code, _, err = call(capsys, monkeypatch, store, "rm", "activate")
    assert code == 1
    assert err == [
        f"error: KEY must be the name of exactly one artifact, or its beginning; got 'activate' (3 artifacts in "
        f"{store.root}). `pcace store ls` lists the names."
    ]
    with Store(store.root) as used:
        used.find(key(3))
        code, _, err = call(capsys, monkeypatch, store, "rm", str(key(3)))
    assert code == 1
    assert err == [f"error: KEY must be an artifact that is not in use; got {key(3)}. Wait until the run ends."]

    code, out, _ = call(capsys, monkeypatch, store, "gc", "--keep", "1KiB")
    assert code == 0
    assert out[-1].startswith("3 artifacts removed, 0 B left in ")
    code, _, err = call(capsys, monkeypatch, store, "gc", "--keep", "5GB")
    assert code == 1
    assert err == ["error: --keep must be a number with a unit (B, KiB, MiB, GiB, TiB); got 5GB. Example: --keep 5GiB."]


@pytest.mark.parametrize(("text", "size"), [("5GiB", 5 * 2**30), ("300 MiB", 300 * 2**20), ("0B", 0), ("1.5KiB", 1536)])
def test_sizes_are_parsed_and_formatted(text: str, size: int) -> None:
    assert size_in_bytes(text) == size
    assert formatted_size(5 * 2**30) == "5.0 GiB"
    assert formatted_size(12) == "12 B"


@pytest.mark.parametrize("text", ["5", "GiB", "-1GiB", "5 gib"])
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        size_in_bytes(text)
