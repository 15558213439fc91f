"""``pcace schema``: the JSON schema of the YAML files in ``conf/``, for completion and validation in editors.

It is generated from the settings classes: their types, ranges and descriptions, and the defaults in ``conf/``. The
settings in a file are a part of all settings, so that none is required; a value may be ``???`` (to be given) or refer
to another setting (``${...}``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter

from pipeline.command_line import command
from pipeline.config import compose_config, values_of
from pipeline.errors import SettingsError, listed
from pipeline.files import write_whole
from pipeline.resources import options
from pipeline.settings import (
    DataSettings,
    EngineSettings,
    ModelSettings,
    ScoreSettings,
    Settings,
    TargetSettings,
    TrackingSettings,
    VisualizeSettings,
    WebSettings,
)

USAGE = """Usage: pcace schema [GROUP]

Prints the JSON schema of the YAML files with settings, with which editors complete and check them. Without GROUP, it is
that of experiments and of all settings; GROUP is a configuration group: {groups}.

    pcace schema > settings.schema.json

Then begin a YAML file with this line, which the YAML extensions of VS Code, Neovim, Emacs and other editors read:

    # yaml-language-server: $schema=settings.schema.json"""

ALL = "settings"  # the schema of experiments and of all settings
KINDS: Mapping[str, Any] = {
    ALL: Settings,
    "data": DataSettings,
    "engine": EngineSettings,
    "model": ModelSettings,
    "score": ScoreSettings,
    "target": TargetSettings,
    "tracking": TrackingSettings,
    "visualize": VisualizeSettings,
    "web": WebSettings,
}
# The settings that have several forms, of which one setting tells which it is.
FORMS = {"data": "source", "score": "kind", "target": "kind", "engine": "kind"}
REFERENCE = {"type": "string", "pattern": r"^(\?\?\?|.*\$\{.+\}.*)$"}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON schema of the YAML files of a kind.

    Parameters
    ----------
    kind : str
        A name in `KINDS`: ``settings``, or a configuration group.
    """
    generated = TypeAdapter(KINDS[kind]).json_schema()
    definitions = generated.pop("$defs", {})
    classes = {each.__name__: each for each in settings_classes()}
    is_one = "properties" in generated
    found = {name: _partial(each, classes[name]) for name, each in definitions.items()}
    whole = _partial(generated, KINDS[kind]) if is_one else {"anyOf": generated["oneOf"]}
    members = [whole] if is_one else [found[each["$ref"].rpartition("/")[2]] for each in generated["oneOf"]]
    for member in members:
        member["properties"] = {**HEADERS, **member["properties"]} if kind != ALL else member["properties"]
    if kind == ALL:
        whole["properties"] = {"defaults": _defaults_list(), **whole["properties"], "hydra": {"type": "object"}}
        _add_defaults(whole, found)
    schema = {"$schema": DIALECT, "title": f"pcace: {kind}", **whole, **({"$defs": found} if found else {})}
    assert isinstance(schema, dict)
    return schema


HEADERS = {"defaults": {"type": "array", "description": "Files that this one is based on."}}


def settings_classes() -> list[type]:
    """Return all classes of settings."""
    from pipeline import settings

    found = [getattr(settings, name) for name in settings.__all__]
    return [each for each in found if isinstance(each, type) and is_dataclass(each)]


def described(settings: type) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each setting of a class by its name; inherited settings have their descriptions."""
    schema = TypeAdapter(settings).json_schema()
    return {name: _with_description(name, value, settings) for name, value in schema["properties"].items()}


def _with_description(name: str, value: Mapping[str, Any], settings: type) -> dict[str, Any]:
    """Return the schema of a setting with its description as one line, which pydantic takes from one class only."""
    text = value.get("description")
    if text is None:
        for base in settings.__mro__[1:]:
            if is_dataclass(base):
                text = text or TypeAdapter(base).json_schema()["properties"].get(name, {}).get("description")
    kept = {key: each for key, each in value.items() if key not in ("title", "description", "discriminator")}
    if "oneOf" in kept:
        kept["anyOf"] = kept.pop("oneOf")  # several forms may agree with a part of the settings
    return {"description": " ".join(text.split()), **kept} if text else kept


def _partial(schema: Mapping[str, Any], settings: Any) -> dict[str, Any]:
    """Return the schema of a part of the settings of a class: none is required, and each may be a reference."""
    properties = {}
    for name, value in schema["properties"].items():
        one = _with_description(name, value, settings)
        text = {"description": one.pop("description")} if "description" in one else {}
        is_group = "$ref" in one or all("$ref" in each for each in one.get("anyOf", [{}]))
        properties[name] = {**text, **(one if is_group else {"anyOf": [one, REFERENCE]})}
    about = " ".join(schema.get("description", "").split("\n\n")[0].split())
    return {"description": about, "type": "object", "properties": properties, "additionalProperties": False}


def _add_defaults(whole: dict[str, Any], definitions: Mapping[str, Any]) -> None:
    """Add the defaults in ``conf/`` to the schemas of all settings."""
    for path, default in defaults().items():
        at = whole
        for part in path.split("."):
            at = at["properties"].get(part, {})
            if (reference := at.get("$ref")) is not None:
                at = definitions[reference.rpartition("/")[2]]
            if "properties" not in at:
                break
        if "anyOf" in at and "properties" not in at and all("$ref" not in each for each in at["anyOf"]):
            at["default"] = default


def defaults(*overrides: str) -> dict[str, Any]:
    """Return the default of every setting by its dotted name, as ``conf/`` and the overrides state it."""
    return dict(_leaves(values_of(compose_config(["paths.outputs=outputs", *overrides]))))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _defaults_list() -> dict[str, Any]:
    """Return the schema of Hydra's list of defaults, which completes the options of the configuration groups."""
    groups = [name for name in KINDS if name not in (ALL, "web")] + ["experiment"]
    choices = {group: {"anyOf": [{"enum": options(group)}, {"type": ["string", "array", "null"]}]} for group in groups}
    overridden = {f"override /{group}": choice for group, choice in choices.items()}
    item = {"anyOf": [{"type": "string"}, {"type": "object", "properties": {**overridden, **choices}}]}
    return {"type": "array", "description": "Options of the configuration groups.", "items": item}


def forms_of(kind: str) -> list[type]:
    """Return the classes of a kind of settings: one, or one for each form."""
    if kind not in FORMS:
        return [KINDS[kind]]
    union = get_args(KINDS[kind])[0]
    return [each for each in get_args(union) if isinstance(each, type)]


def write_schemas(folder: Path) -> None:
    """Write the schema of each kind to a file in a folder, if it has changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        path, text = folder / f"{kind}.json", as_text(kind)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text)


def as_text(kind: str) -> str:
    """Return the JSON schema of a kind of YAML files as text."""
    return json.dumps(schema_of(kind), indent=1) + "\n"


@command
def main() -> None:
    """Print the schema."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(USAGE.format(groups=", ".join(name for name in KINDS if name != ALL)))
        return
    kind = arguments[0] if arguments else ALL
    if len(arguments) > 1 or kind not in KINDS:
        got = " ".join(arguments)
        raise SettingsError(
            f"GROUP must be one of {listed(list(KINDS), 20)}; got {got}. Leave it out for all settings."
        )
    print(as_text(kind), end="")


if __name__ == "__main__":
    main()
