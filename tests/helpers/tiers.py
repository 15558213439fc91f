"""The tier of each test and the tools that it needs, as markers. CONTRIBUTING.md describes the tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from tests.helpers.project import ROOT

END_TO_END = ROOT / "tests" / "e2e"
# A test that uses one of these fixtures needs the benchmark data, or a program besides Python's packages.
FIXTURES = {
    "photographs": "data", "resnet20_weights": "data", "panoramas": "data",
    "browser": "browser", "slurm": "slurm", "acepack": "r",
}  # fmt: skip
# A test that calls one of these takes more than about a second: each runs the whole pipeline or starts a process.
SLOW = {
    "pipeline.runner.run",
    "subprocess",
    "tests.helpers.processes.rank_network",
    "tests.helpers.processes.start_command",
    "pipeline.whole_network.run_network",
    "tests.oracles.stage_outputs.run_stages",
}


def add_markers(item: pytest.Item) -> None:
    """Mark a test with its tier and the tools that it needs; a test with no other marker is a unit test."""
    if END_TO_END in item.path.parents:
        item.add_marker("e2e")
    elif isinstance(item, pytest.Function) and any(calls_something_slow(each) for each in functions(item)):
        item.add_marker("slow")
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in FIXTURES:
            item.add_marker(FIXTURES[fixture])
    if not any(item.get_closest_marker(name) for name in ("e2e", "slow", *FIXTURES.values())):
        item.add_marker("unit")


def functions(item: pytest.Function) -> Iterator[Callable[..., Any]]:
    """Yield the function of a test and those of its fixtures."""
    yield item.function
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        yield definitions[-1].func


def calls_something_slow(function: Callable[..., Any]) -> bool:
    """Return whether a function, or one that it calls in its own module, calls one of `SLOW`."""
    waiting, seen = [function], set[FunctionType]()
    while waiting:
        called = waiting.pop()
        if not isinstance(called, FunctionType) or called in seen:
            continue
        seen.add(called)
        for name in global_names(called.__code__):
            value = called.__globals__.get(name)
            if qualified_name(value) in SLOW:
                return True
            if isinstance(value, FunctionType) and value.__module__ == called.__module__:
                waiting.append(value)
    return False


def global_names(code: CodeType) -> Iterator[str]:
    """Yield the global names and attributes that compiled code uses, those of nested functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def qualified_name(value: object) -> str:
    """Return the full name of a function or module; of other objects, the empty string."""
    if isinstance(value, ModuleType):
        return value.__name__
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, FunctionType) else ""
