"""The code that a network of the user runs: its modules, and those that they import.

A module belongs to the user if it is neither part of Python nor installed in ``site-packages``. Such modules are
identified by the bytes of their files, installed ones by the version of their package.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import util
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Literal
from weakref import WeakKeyDictionary

# Their code is part of the versions of the stages, so that imports in them are not followed.
OWN_PACKAGES = frozenset({"pcace", "pipeline"})
# Packages whose versions do not identify a network: every network is made of torch's modules.
COMMON = frozenset({"torch"})
Origin = Literal["python", "installed", "own", "user"]
_File = tuple[str, tuple[str, ...]]  # the digest of a file, and the modules that it imports
_LOADED: WeakKeyDictionary[ModuleType, tuple[ModuleSpec, _File]] = WeakKeyDictionary()


def code_of(modules: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return what identifies the code of some modules and of all user modules that they import.

    Imports are found in the source, wherever they are in it, so that the result does not depend on what else this
    process has imported.

    Parameters
    ----------
    modules : iterable of str
        Dotted names of modules.

    Returns
    -------
    dict
        Under ``code``, the SHA-256 of the file of each user module, by the module's name; under ``packages``, the
        versions of the installed packages among `modules`.
    """
    given = set(modules)
    files: dict[str, str] = {}
    packages: dict[str, str] = {}
    pending, seen = sorted(given), set(given)
    while pending:
        name = pending.pop()
        spec = _spec(name)
        if spec is None:
            continue
        top = name.partition(".")[0]
        origin = _origin(top, spec)
        if origin == "installed" and name in given and top not in COMMON:
            packages |= _versions(top)
        if origin not in ("own", "user") or (origin == "own" and name not in given):
            continue
        imported: set[str] = set()
        if spec.origin is not None and Path(spec.origin).is_file():  # not a folder without __init__.py
            files[name], names = _file(name, spec, Path(spec.origin))
            imported = set(names) if origin == "user" else set()
        found = {parent for each in (name, *imported) for parent in _with_parents(each)} - seen
        if origin == "user":
            pending += sorted(found)
            seen |= found
    return {"code": files, "packages": packages}


def _origin(top: str, spec: ModuleSpec) -> Origin:
    """Return where a module comes from, given its top-level package."""
    if top in OWN_PACKAGES:
        return "own"
    places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    if not places:
        return "python"  # built in or frozen
    path = Path(places[0]).resolve()
    if {"site-packages", "dist-packages"} & set(path.parts):
        return "installed" if _versions(top) else "user"  # a file that was copied there has no version
    return "python" if any(path.is_relative_to(folder) for folder in _standard_library()) else "user"


@cache
def _standard_library() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple(Path(paths[name]).resolve() for name in ("stdlib", "platstdlib"))


@cache
def _versions(top: str) -> Mapping[str, str]:
    """Return the versions of the distributions that contain a top-level package, by their names."""
    try:
        return {top: version(top)}
    except PackageNotFoundError:
        return {name: version(name) for name in sorted(set(packages_distributions().get(top, ())))}


def _spec(name: str) -> ModuleSpec | None:
    """Return where a module is, without importing it; None if there is none."""
    module = sys.modules.get(name)
    if module is not None:
        return getattr(module, "__spec__", None)
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            return util.find_spec(name)
        places = getattr(_spec(parent), "submodule_search_locations", None)
        return None if places is None else PathFinder.find_spec(name, places)
    except (ImportError, ValueError, AttributeError):
        return None


def _file(name: str, spec: ModuleSpec, path: Path) -> _File:
    """Return the digest and the imports of a module's file; of an imported module, as they were the first time.

    A file that is edited while this process runs does not change the module that was imported from it.
    """
    module = sys.modules.get(name)
    if module is not None and module in _LOADED and _LOADED[module][0] is spec:
        return _LOADED[module][1]
    data = path.read_bytes()
    package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
    imported = () if path.name.endswith((*EXTENSION_SUFFIXES, ".pyc")) else tuple(sorted(set(_imports(data, package))))
    found = hashlib.sha256(data).hexdigest(), imported
    if module is not None:
        _LOADED[module] = spec, found
    return found


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Yield the names of everything that the source of a module imports; some of them are not modules.

    Parameters
    ----------
    source : bytes
        Content of the file.
    package : str
        The package that contains the module.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*parts, *([node.module] if node.module else [])])
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
            case ast.Call(func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__")):
                yield from (str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: index + 1]) for index in range(len(parts)))
