"""Values that only depend on installed code, kept in the user's cache folder so that the code need not be imported.

Importing torch and torchvision takes seconds, and what a command needs of them is often a list of names that the last
command has found out already. A value is kept under everything that it can depend on: its inputs, the sources of this
package, the version of Python, and the installed files of the packages that compute it. Values that depend on anything
else, such as a network of the user, whose code may read any file, are never kept (docs/decisions/0117).
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from pipeline.digests import digest_bytes
from pipeline.files import temporary_home, write_whole

_DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}  # that differ from the names of their packages


def kept_value(what: str, inputs: Any, packages: Sequence[str], compute: Callable[[], Any]) -> Any:
    """Return a value, which is computed if it is not in the cache folder.

    Parameters
    ----------
    what : str
        What the value is.
    inputs : object
        Everything that it depends on apart from code, in plain JSON types. Files are represented by their digests.
    packages : sequence of str
        The packages that compute it, apart from this one, by the names under which they are imported. If the sources of
        one of them may change without being installed, the value is not kept.
    compute : callable
        Computes the value, in plain JSON types. An error that it raises is not kept.
    """
    installed = {name: _installed(name) for name in packages}
    if None in installed.values():
        return compute()
    code = {"python": sys.version, "machine": platform.machine(), "pcace": _sources(), **installed}
    key = json.dumps([what, inputs, code], sort_keys=True)
    path = _folder() / f"{digest_bytes(key.encode())}.json"
    found = _read(path, key)
    if found is None:
        found = compute()
        text = json.dumps(found)
        try:
            write_whole(path, json.dumps({"key": key, "value": text, "sha256": digest_bytes(text.encode())}))
        except OSError:  # the disk is full, or the folder cannot be written to: the next command computes it again
            return found
    return found


def _read(path: Path, key: str) -> Any:
    """Return the value in a file; None if there is no such file, or if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
        if content["key"] == key and content["sha256"] == digest_bytes(content["value"].encode()):
            return json.loads(content["value"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


@cache
def _sources() -> str:
    """Return a digest of the sources of this package, which are edited without a new version in a checkout."""
    folder = Path(__file__).parent
    files = {str(path.relative_to(folder)): digest_bytes(path.read_bytes()) for path in sorted(folder.rglob("*.py"))}
    return digest_bytes(json.dumps(files).encode())


@cache
def _installed(package: str) -> str | None:
    """Return a digest of the digests of all files of a package, which its installation has recorded.

    The version alone does not say what is installed: a package from a repository keeps it from commit to commit.

    Returns
    -------
    str or None
        None if another folder is imported than the installed one, as for an editable installation or a folder in
        ``PYTHONPATH``, or if there is no record.
    """
    found, spec = distribution(_DISTRIBUTIONS.get(package, package)), find_spec(package)
    record, file = found.read_text("RECORD"), Path(str(found.locate_file(f"{package}/__init__.py")))
    if record is None or spec is None or spec.origin is None or Path(spec.origin).resolve() != file.resolve():
        return None
    return digest_bytes(record.encode())


def _folder() -> Path:
    """Return the folder of the values: in the user's cache folder; temporary if the user has no home directory."""
    try:
        return user_cache_path("pcace") / "values"
    except RuntimeError:
        return temporary_home() / "values"
