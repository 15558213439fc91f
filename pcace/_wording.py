"""The pipeline's messages in terms of Python: its settings as arguments of `pcace.rank`, its commands as functions.

The messages of the stages and of the settings name what a user of the command line types, such as ``score=ablation`` or
``ablate.when=always``. They have a fixed form, from which the arguments in Python follow, so that each message is
written only once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from typing import Any

from pipeline.errors import PipelineError

SENTENCES = {
    "`pcace layers` lists": "pcace.layers(model, images) lists",
    "Set model.channels=first or last.": 'Give channels="first" or channels="last".',
    "Correct the network, or check model.input_size and model.transform.": (
        "Check the shape of the images and the code of the network."
    ),
    "Check that the weights are trained, the images differ and the transform suits the network.": (
        "Check that the weights are trained, the images differ and their normalisation is that of the training."
    ),
    "Check the weights and the transform.": "Check the weights and the normalisation of the images.",
    "paths.outputs": "store",
    ", and run again: finished stages are kept.": ".",
    "take fewer images": "give fewer images (n_images=...)",
}
OF_MODEL = ("batch_size", "channels", "class_names")
OTHER_NAMES = {"score": "ranker", "layer": "layer", "n_components": "n_components", "seed": "seed"}

_WORDS = {"null": "None", "true": "True", "false": "False"}
_ASSIGNED = r"[a-z_]+(?:\.[a-z_]+)?=(?:[a-z_]+|-?\d+(?:\.\d+)?(?:e-?\d+)?)(?![\w.]*[\w(\[])"
_RUN = re.compile(rf"(?<![\w.\"'{{/]){_ASSIGNED}(?: {_ASSIGNED})*")
_PLAIN = re.compile(r"(?<![\w.\"'/])([a-z]+)\.([a-z_]+)(?![\w=\"]|\.\w)")
_JSON = re.compile(r"(?<=\bmust be )null\b|(?<=\bgot )(?:null|true|false)\b|(?<=\bsmoothness )null\b")


@contextmanager
def worded_for_python() -> Iterator[None]:
    """Reword the message of a `PipelineError` that is raised inside the context; also a decorator of functions."""
    try:
        yield
    except PipelineError as error:
        error.args = (in_python(str(error)), *error.args[1:])
        raise


def in_python(text: str) -> str:
    """Return a message of the pipeline as a message for a user of Python; other text is not changed."""
    for sentence, replacement in SENTENCES.items():
        text = text.replace(sentence, replacement)
    text = _RUN.sub(lambda found: _arguments(found[0]), text)
    text = _PLAIN.sub(lambda found: _name(found[1], found[2]) or found[0], text)
    text = _JSON.sub(lambda found: _WORDS[found[0]], text)
    return text.replace("be true or false", "be True or False")


def _arguments(assignments: str) -> str:
    """Return ``name=value name=value`` as arguments of a function."""
    found: dict[str, str] = {}
    grouped: dict[str, str] = {}
    for each in assignments.split(" "):
        name, _, value = each.partition("=")
        group, _, setting = name.rpartition(".")
        if name in OTHER_NAMES:
            found[OTHER_NAMES[name]] = _value(value)
        elif group in _groups() and setting in _groups()[group]:
            found[setting] = _value(value)
        elif group in _mappings() and setting in _mappings()[group]:
            grouped[name] = _value(value)
        else:
            return assignments  # for example, code of the user that a message quotes
    arguments = [f"{name}={value}" for name, value in found.items()]
    if grouped:
        arguments.append("settings={" + ", ".join(f'"{name}": {value}' for name, value in grouped.items()) + "}")
    return ", ".join(arguments)


def _name(group: str, setting: str) -> str | None:
    """Return a dotted name as an argument of `pcace.rank` or as a key of its argument ``settings``."""
    if setting in _groups().get(group, ()):
        return setting
    return f'settings["{group}.{setting}"]' if setting in _mappings().get(group, ()) else None


def _value(text: str) -> str:
    """Return a value as code: a word as a text, except for null, true and false."""
    return _WORDS.get(text, f'"{text}"' if text[0].isalpha() else text)


@cache
def _groups() -> dict[str, frozenset[str]]:
    """Return the settings that are keyword arguments of `pcace.rank`, by their group."""
    from pipeline.settings import AceSettings, PathRankerSettings, RankerSettings

    of_rankers = _names(AceSettings, RankerSettings, PathRankerSettings)
    return {"score": of_rankers - {"kind"}, "model": frozenset(OF_MODEL)}


@cache
def _mappings() -> dict[str, frozenset[str]]:
    """Return the settings that are keys of the argument ``settings``, by their group."""
    from pipeline.settings import (
        AblateSettings,
        ActivateSettings,
        ClassTarget,
        RankSettings,
        ReduceSettings,
        RegressionTarget,
        VisualizeSettings,
    )

    return {
        "rank": _names(RankSettings),
        "ablate": _names(AblateSettings),
        "activate": _names(ActivateSettings),
        "reduce": _names(ReduceSettings),
        "target": _names(ClassTarget, RegressionTarget),
        "visualize": _names(VisualizeSettings),
    }


def _names(*classes: Any) -> frozenset[str]:
    return frozenset(field.name for each in classes for field in fields(each))
