"""The types that settings are made of, each with the rule that an error message quotes.

Bounds of numbers and lengths of texts are pydantic's own constraints, which `pipeline.settings.faults` puts into words.
A type with a rule of its own states it as a `Rule` in its `Annotated` metadata.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

# Strict: the text "3" is not the number 3, and true is not 1. Unknown settings are errors. The text below a setting is
# its description in the JSON schema and in the documentation.
STRICT = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)
RULE_ERROR = "rule"  # the type of pydantic's error where a `Rule` is not met


@dataclass(frozen=True)
class Rule:
    """A condition on a setting's value, with its wording in error messages; used as metadata of an `Annotated` type.

    Parameters
    ----------
    text : str
        The rule as it follows "<setting> must", for example ``"be a network such as 10.0.0.0/8"``.
    is_met : callable
        Returns whether a value meets the rule.
    advice : str
        Sentences that follow the value in the message and say what to do; empty for none.
    before : bool
        Check the value as it was given, before pydantic checks its type. Needed where the type is a union, for which
        pydantic would report one error for each member, and where a value of another type deserves this rule's message.
    schema : mapping
        The rule in JSON schema: keywords that are added to those of the type, or replace an ``anyOf`` among them.
    """

    text: str
    is_met: Callable[[Any], bool]
    advice: str = ""
    before: bool = False
    schema: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema of the annotated type with this rule."""
        return {**handler(core), **self.schema}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the annotated type with this rule's check before or after it."""
        if self.before:
            return core_schema.no_info_before_validator_function(self._checked, handler(source))
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: Any) -> Any:
        if self.is_met(value):
            return value
        raise PydanticCustomError(RULE_ERROR, "must {rule}", {"rule": self.text, "advice": self.advice})


def _number_as_name(value: object) -> object:
    """Return the digits of a number as text: ``class_name: 3`` in a YAML file names the class "3"."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True


def _is_count_or_share(value: object) -> bool:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return is_count or value == AUTO or (isinstance(value, float) and 0 < value < 1)


def _are_layers(value: object) -> bool:
    """Return False for a list that is empty or has other members than names; other types are refused by pydantic."""
    parts = value if isinstance(value, list) else value.split(",") if isinstance(value, str) and value else ["layer"]
    return bool(parts) and all(isinstance(_number_as_name(part), str) and part != "" for part in parts)


def _joined(value: object) -> object:
    """Return a list of layers as text, with commas between them."""
    return ",".join(str(part) for part in value) if isinstance(value, list) else _number_as_name(value)


def selects_several(layer: str) -> bool:
    """Return whether the setting `layer` selects several layers: all, a pattern with * or ?, or a list with commas."""
    return layer == ALL_LAYERS or not set("*?,").isdisjoint(layer)


ALL_LAYERS = "all"  # layer: every layer that can be ranked, the same as the pattern *
AUTO = "auto"  # n_components: chosen by cross-validation
Text = Annotated[str, Field(min_length=1)]
NAME_SCHEMA = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}]}  # class_name: 3 is the class "3"
LAYERS_SCHEMA = {"anyOf": [*NAME_SCHEMA["anyOf"], {"type": "array", "items": NAME_SCHEMA, "minItems": 1}]}
Name = Annotated[str, BeforeValidator(_number_as_name), Field(min_length=1), WithJsonSchema(NAME_SCHEMA)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Network = Annotated[str, Rule("be a network such as 10.0.0.0/8", _is_network)]
ADDRESS, CALLABLE = r"https?://[^?#]+", r"[\w.]+:[\w.]+"
WebAddress = Annotated[
    str,
    Rule(
        "have the form https://host/path",
        lambda text: re.fullmatch(ADDRESS, text) is not None,
        schema={"pattern": f"^{ADDRESS}$"},
    ),
]
CallablePath = Annotated[
    str,
    Rule(
        "have the form package.module:callable",
        lambda text: re.fullmatch(CALLABLE, text) is not None,
        schema={"pattern": f"^{CALLABLE}$"},
    ),
]
ComponentCount = Annotated[
    int | float | Literal["auto"],
    Rule(
        "be a whole number of at least 1, a share of the variance in (0, 1), or auto",
        _is_count_or_share,
        before=True,
        schema={
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                {"const": AUTO},
            ]
        },
    ),
]
LayerName = Annotated[
    Text,
    BeforeValidator(_joined),
    Rule(
        "be a layer, a pattern such as layer*.conv2, all, or a list of these",
        _are_layers,
        before=True,
        schema=LAYERS_SCHEMA,
    ),
]
"""One layer, or several: a list becomes text with commas between the layers."""
