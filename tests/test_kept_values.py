"""Values that are kept in the user's cache folder: nothing but what they depend on makes them valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import kept_values
from pipeline.errors import NetworkError
from pipeline.kept_values import kept_value


class Counting:
    """Computes a value, and counts how often."""

    def __init__(self) -> None:
        self.n_calls = 0

    def __call__(self) -> dict[str, int]:
        self.n_calls += 1
        return {"value": self.n_calls}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the values in a folder of the test."""
    monkeypatch.setattr(kept_values, "_folder", lambda: tmp_path / "values")
    return tmp_path / "values"


def test_a_value_is_computed_once_for_each_input() -> None:
    compute = Counting()
    assert [kept_value("what", inputs, (), compute) for inputs in (1, 1, [2], 1)] == [
        {"value": 1}, {"value": 1}, {"value": 2}, {"value": 1},
    ]  # fmt: skip
    assert kept_value("something else", 1, (), compute) == {"value": 3}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package, and return its folder of metadata."""
    site = tmp_path / "site"
    metadata = site / "installed-1.0.dist-info"
    for folder in (metadata, site / "installed"):
        folder.mkdir(parents=True)
    (site / "installed" / "__init__.py").touch()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("installed/__init__.py,sha256=a,0\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(kept_values, "_installed", kept_values._installed.__wrapped__)  # in one process
    return metadata


def test_other_sources_and_other_files_of_the_packages_make_it_invalid(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Counting()
    for _ in range(2):
        kept_value("what", 1, ("installed",), compute)
    (package / "RECORD").write_text("installed/__init__.py,sha256=b,0\n")  # another commit of the same version
    for _ in range(2):
        kept_value("what", 1, ("installed",), compute)
    monkeypatch.setattr(kept_values, "_sources", lambda: "edited")
    kept_value("what", 1, ("installed",), compute)
    assert compute.n_calls == 3


@pytest.mark.parametrize("how", ["folder in PYTHONPATH or editable", "no record"])
def test_nothing_is_kept_of_packages_whose_files_are_not_recorded(
    package: Path, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "no record":
        (package / "RECORD").unlink()
    else:
        sources = tmp_path / "sources" / "installed"
        sources.mkdir(parents=True)
        (sources / "__init__.py").touch()
        monkeypatch.syspath_prepend(sources.parent)
    compute = Counting()
    assert [kept_value("what", 1, ("installed",), compute)["value"] for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("names", [("torch", "torchvision", "safetensors"), ("sklearn", "numpy", "PIL")])
def test_the_packages_of_this_project_are_recorded(names: tuple[str, ...]) -> None:
    assert len({kept_values._installed(name) for name in names} - {None}) == len(names)


def test_the_digest_of_the_sources_changes_with_each_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "networks").mkdir()
    monkeypatch.setattr(kept_values, "__file__", str(tmp_path / "kept_values.py"))
    digests = []
    for text in ("a = 1", "a = 2"):
        (tmp_path / "networks" / "digits.py").write_text(text)
        digests.append(kept_values._sources.__wrapped__())
    assert digests[0] != digests[1]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": 1}', None])
def test_a_damaged_file_is_computed_again(folder: Path, damage: bytes | None) -> None:
    compute = Counting()
    kept_value("what", 1, (), compute)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes().replace(b'\\"value\\": 1', b'\\"value\\": 7') if damage is None else damage)
    assert kept_value("what", 1, (), compute) == {"value": 2}
    assert kept_value("what", 1, (), compute) == {"value": 2}


def test_an_error_is_not_kept_and_a_folder_that_cannot_be_written_to_is_no_error(folder: Path) -> None:
    def fail() -> None:
        raise NetworkError("no such network")

    with pytest.raises(NetworkError):
        kept_value("what", 1, (), fail)
    folder.write_text("a file in the place of the folder")
    assert kept_value("what", 1, (), Counting()) == {"value": 1}
