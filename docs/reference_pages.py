"""The parts of the reference that are generated from the code; each function returns Markdown."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from docs import tables
from pipeline.commands import COMMANDS, usage
from pipeline.figures.catalogue import FIGURES
from pipeline.resources import options
from pipeline.schema import FORMS, defaults, described, forms_of
from pipeline.settings import Settings
from pipeline.stages import associate, load_stages

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
WIDTH = 100
GROUPS = (
    "model", "data", "activate", "reduce", "network", "target", "score", "rank", "ablate", "visualize", "tracking",
    "engine", "paths",
)  # fmt: skip
# Options that set the settings of a form.
OPTIONS = {
    "target": {"class": (), "regression": ("target=regression",)},
}


def settings() -> str:
    """Every setting with its type, range, default and description."""
    standard = defaults()
    whole = described(Settings)
    main = {name: value for name, value in whole.items() if name not in GROUPS}
    text = ["## Main settings\n", *_entries(main, "", standard)]
    for group in GROUPS:
        text.append(f"\n## `{group}`\n")
        text.append(f"{whole[group]['description']} {_options(group)}\n")
        if group in FORMS:
            for form in forms_of(group):
                text += _form(group, form)
        else:
            text += _entries(described(_type(Settings, group)), f"{group}.", standard)
    return "\n".join(text)


def _type(owner: type, name: str) -> type:
    found = get_type_hints(owner)[name]
    assert isinstance(found, type)
    return found


def _options(group: str) -> str:
    names = options(group)
    return f"Options: {', '.join(f'`{group}={name}`' for name in names)}." if names else ""


def _form(group: str, form: type) -> Iterator[str]:
    """Yield the settings of one form of a group."""
    found = described(form)
    choice = found[FORMS[group]]
    names = [str(each) for each in choice.get("enum", [choice.get("const")])]
    values = defaults(*OPTIONS.get(group, {}).get(names[0], (f"{group}={names[0]}",)))
    yield f"\n### {', '.join(f'`{group}={name}`' for name in names)}\n"
    yield f"{' '.join((form.__doc__ or '').split('Attributes')[0].split()).replace('``', '`')}\n"
    yield from _entries({name: value for name, value in found.items() if name != FORMS[group]}, f"{group}.", values)


def _entries(found: Mapping[str, Any], prefix: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a definition for each setting; a group of settings yields those of its own class."""
    from pipeline import settings as classes

    for name, schema in found.items():
        if (reference := schema.get("$ref")) is not None:
            group: type = getattr(classes, reference.rpartition("/")[2])
            yield from _entries(described(group), f"{prefix}{name}.", values)
            continue
        default = values.get(f"{prefix}{name}", ...)
        shown = "must be given" if default is ... else f"default `{json.dumps(default, ensure_ascii=False)}`"
        kind = type_of(schema)
        yield f"`{prefix}{name}`\n: {schema['description']}\\\n  *{kind[:1].upper()}{kind[1:]}; {shown}.*\n"


def type_of(schema: Mapping[str, Any]) -> str:
    """Return a type and its range in words, from its JSON schema."""
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(type_of(each) for each in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: {', '.join(type_of(each) for each in schema['prefixItems'])}"
        return f"list of {type_of(schema['items'])}"
    word = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    word |= {"null": "`null`", "object": "mapping"}
    bounds = [
        f"{text} {schema[key]:,}"
        for key, text in (
            ("minimum", "at least"), ("exclusiveMinimum", "above"),
            ("maximum", "at most"), ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]  # fmt: skip
    return " ".join([word[str(kind)], " and ".join(bounds)]).strip()


def commands() -> str:
    """The help of every command."""
    text = [_block(usage())]
    for name in COMMANDS:
        text += [f"\n## `pcace {name}`\n", _block(help_of(name))]
        if name == "store":
            text += [
                f"\n### `pcace store {each}`\n\n{_block(help_of(name, each))}" for each in ("ls", "verify", "gc", "rm")
            ]
    text += [
        "\n## `python -m pipeline.dvc`\n",
        "The commands in `dvc.yaml`: `compose`, `identify`, and one per stage.\n",
    ]
    targets = re.findall(r"^([a-z-]+):.*?## (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    text += ["\n## `make`, in a checkout\n", *(f"`make {name}`\n: {about}\n" for name, about in targets)]
    return "\n".join(text)


def _block(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


def help_of(name: str, *arguments: str) -> str:
    """Return what ``pcace NAME --help`` prints."""
    if name == "run":  # Hydra keeps global state
        command = [sys.executable, "-m", "pipeline", "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=_environment())
        return re.sub(r"\n{3,}", "\n\n", done.stdout)
    before, printed, columns = sys.argv, io.StringIO(), os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = [name, *arguments, "--help"], str(WIDTH)
    try:
        with redirect_stdout(printed):
            import_module(COMMANDS[name].module).main()
    except SystemExit:
        pass  # argparse
    finally:
        sys.argv = before
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    return printed.getvalue()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(WIDTH)}


def columns() -> str:
    """Every column of every table."""
    text = []
    for table in tables.TABLES:
        text += [f"\n## {table.title}\n", f"{table.about}\n"]
        text += [f"`{name}`\n: {about}\n" for name, about in table.columns.items()]
    return "\n".join(text)


def stages() -> str:
    """The stages, their versions, and what their artifacts contain; the last one is that of several layers."""
    text = []
    for stage in (*load_stages(), associate.STAGE):
        about = " ".join((import_module(f"pipeline.stages.{stage.name}").__doc__ or "").split("\n\n")[0].split())
        upstream = ", ".join(f"`{each.__name__}`" for each in stage.upstream.values()) or "no other artifact"
        text.append(f"\n## {stage.name}\n")
        text.append(f"Version {stage.version}: {about.partition(': ')[2]} Builds on {upstream}.\n")
        artifact = stage.artifact
        text.append(f"```{{eval-rst}}\n.. autoclass:: pipeline.artifacts.{artifact.__name__}\n   :no-members:\n```\n")
        text.append(f"Files: {', '.join(f'`{name}`' for name in tables.FILES[stage.name])}.\n")
    return "\n".join(text)


def figures() -> str:
    """Every figure of a run and its caption."""
    return "\n".join(f"`{entry.name}.png`\n: {entry.caption}\n" for entry in FIGURES.values())


def changelog() -> str:
    """The changelog, without its heading."""
    return _included("CHANGELOG.md")


def contributing() -> str:
    """The rules for contributors, without their heading."""
    return _included("CONTRIBUTING.md")


def _included(name: str) -> str:
    from docs import pages

    return pages.included(name).partition("\n")[2]


def decisions() -> str:
    """A table of contents with all decisions."""
    names = sorted(path.stem for path in (DOCS / "decisions").glob("0*.md"))
    return "\n".join(["```{toctree}", ":maxdepth: 1", "", *names, "```"])
