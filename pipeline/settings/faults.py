"""Pydantic's findings as error messages: one line each, which names the setting as it was typed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pipeline.settings.types import RULE_ERROR

# Settings that were renamed: old dotted path to new dotted path. A path may be a group's, and then stands for all
# settings below it.
RENAMED = {"remove": "ablate"}

# Pydantic's types of error, as they follow "<setting> must"; {names} are filled in from the error's context. A type of
# setting with a rule of its own states it as a `pipeline.settings.types.Rule`, not here.
RULES = {
    "greater_than": "be above {gt:g}",
    "greater_than_equal": "be at least {ge:g}",
    "less_than": "be below {lt:g}",
    "less_than_equal": "be at most {le:g}",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "bool_type": "be true or false",
    "string_type": "be text",
    "string_too_short": "not be empty",
    "tuple_type": "be a list",
    "too_long": "have at most {max_length} values",
    "dict_type": "be a mapping",
    "dataclass_type": "be a group of settings",
    "literal_error": "be {expected}",
    "union_tag_invalid": "be one of {expected_tags}",
    RULE_ERROR: "{rule}",
}


def faults_of(error: ValidationError, values: Mapping[str, Any], unions: Collection[str]) -> list[str]:
    """Return one line for each of pydantic's findings.

    Parameters
    ----------
    error : ValidationError
        What validating `values` has raised.
    values : mapping
        The settings as they were given.
    unions : collection of str
        Top-level settings whose type is one of several; in their paths pydantic names the member too.
    """
    faults = [fault for details in error.errors() for fault in _faults(details, values, unions)]
    return list(dict.fromkeys(faults))  # a list that lacks two values gets the same line twice


def _faults(details: ErrorDetails, values: Mapping[str, Any], unions: Collection[str]) -> Iterator[str]:
    path = [str(part) for part in details["loc"]]
    if path[0] in unions and len(path) > 1:
        del path[1]  # the member of the union
    name, kind, context = ".".join(path), details["type"], details.get("ctx", {})
    got = json.dumps(details["input"])
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        yield from _unknown(path, details["input"], _nearest(path, values), values)
        return
    if kind.startswith("union_tag"):
        member = context["discriminator"].strip("'")
        name, given = f"{name}.{member}", details["input"]
        kind = kind if member in given else "missing"
        got = json.dumps(given.get(member))
    if kind in ("missing", "missing_argument"):
        if isinstance(details["loc"][-1], int):
            yield f"{'.'.join(path[:-1])} must have more values; got {got}."
        else:
            yield f"{name} must be given; got nothing. Add {name}=... to the command."
        return
    rule = RULES[kind].format(**context) if kind in RULES else f"be valid ({details['msg'].lower()})"
    advice = context.get("advice", "")
    yield f"{name} must {rule}; got {got}." + (f" {advice}" if advice else "")


def _unknown(path: list[str], given: Any, advice: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Report an unknown setting, or each setting of an unknown group of which something was renamed.

    `advice` is for a setting that was not renamed.
    """
    name = ".".join(path)
    if isinstance(given, dict) and given and _is_renamed_group(name):
        for key, value in given.items():
            yield from _unknown([*path, str(key)], value, advice, values)
    else:
        yield f"{name} must be a known setting; got {json.dumps(given)}. {_new_name(name, values) or advice}"


def _is_renamed_group(name: str) -> bool:
    return any(f"{name}.".startswith(f"{old}.") or old.startswith(f"{name}.") for old in RENAMED)


def _new_name(name: str, values: Mapping[str, Any]) -> str | None:
    """Say what the setting is called now, None where it was not renamed."""
    olds = [old for old in RENAMED if f"{name}.".startswith(f"{old}.")]
    if not olds:
        return None
    old = max(olds, key=len)
    new = RENAMED[old] + name.removeprefix(old)
    # A group's new name with a setting that the group never had: only the group's part is certain.
    return f"It is called {new} now." if _is_given(new, values) else f"{old} is called {RENAMED[old]} now."


def _is_given(name: str, values: Mapping[str, Any]) -> bool:
    found: Any = values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return False
        found = found[part]
    return True


def _nearest(path: list[str], values: Mapping[str, Any]) -> str:
    """Suggest the known settings beside an unknown one."""
    siblings: Any = values
    for part in path[:-1]:
        siblings = siblings[part]
    if path[0] == "engine" and siblings.get("kind") == "local":
        return "Add engine=ray."
    known = [key for key in siblings if key != path[-1]]
    near = difflib.get_close_matches(path[-1], known, n=2, cutoff=0.6)
    prefix = "".join(f"{part}." for part in path[:-1])
    if near:
        return f"Did you mean {' or '.join(prefix + key for key in near)}?"
    return f"Known here: {', '.join(prefix + key for key in known)}."
