"""The overrides of a command line, such as ``layer=conv2``: checked, read as text where a setting is text, and quoted.

Hydra's grammar of overrides and OmegaConf's references (``${...}``) give a meaning to many characters that names of
classes, layers and folders contain. A value of a setting that is text is therefore taken as it was typed where the
grammar has no other reading for it, and messages show how a value is quoted, for the shell as well.
"""

from __future__ import annotations

import re
import shlex
import types
from collections.abc import Iterable, Sequence
from dataclasses import is_dataclass
from importlib.util import find_spec
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.errors import SettingsError, listed
from pipeline.resources import conf_dir, options, own_conf_dir
from pipeline.settings import UNIONS, Settings

# Settings of Hydra that are text.
HYDRA_TEXTS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
LAYERS = "layer"  # text, or a list of texts
# A list or a sequence of bare values: no quotes, references, escapes, functions or nested lists.
BARE = r"[^\[\](){}'\"$\\]*"
QUOTED = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
ELEMENT = rf"(?:{QUOTED})(?=,|\Z)|[^,]+"  # one of several values separated by commas


def checked_overrides(overrides: Sequence[str], *, is_sweep: bool = False) -> list[str]:
    """Return the overrides in a form that Hydra accepts, or report all faults in them together.

    A layer may be spelt ``layer4[1].conv2``, which Hydra's grammar does not accept; it is converted to
    ``layer4.1.conv2``. Values of settings that are text are quoted if Hydra would read them as numbers or could not
    read them. The prefix ``++`` is added to a setting that does not exist, because Hydra would stop at the first of
    these, whereas `settings_from` reports them together with all other faults.

    Parameters
    ----------
    overrides : sequence of str
        Arguments of the command line, such as ``layer=conv2``.
    is_sweep : bool
        Whether an override may have several values, separated by commas, one for each job.

    Raises
    ------
    SettingsError
        If an override cannot be parsed, or a config group has no such option; one line for each fault.
    """
    spelled = [
        re.sub(r"(?<=\w)\[(\d+)\]", r".\1", override) if re.match(r"\+{0,2}layer=", override) else override
        for override in overrides
    ]
    faults, checked = [], []
    for text in (_read_as_text(override, is_sweep=is_sweep) for override in spelled):
        try:
            override = OverridesParser.create().parse_override(text)
            _check_references(override)
        except (HydraException, OmegaConfBaseException) as error:
            reason = str(error).splitlines()[0]
            faults.append(f"every argument must have the form setting=value; got {text} ({reason}). {_advice(text)}")
            continue
        if override.is_sweep_override() and not is_sweep:
            name, _, values = text.partition("=")
            literal = ""
            if _is_text(name.lstrip("+")):
                literal = f" Type {for_shell(name, values)} for this text as one value."
            if name.lstrip("+") == LAYERS:
                literal = f" Type {shlex.quote(f'{name}=[{values}]')} for one run of all of them."
            faults.append(
                f"{name} must be one value; got {values}. For several, run a sweep: --multirun {shlex.quote(text)}."
                f"{literal}"
            )
            continue
        faults += _missing_options(override)
        checked.append(f"++{text}" if _is_unknown_setting(override) else text)
    if faults:
        raise SettingsError("\n".join(faults))
    return checked


def quoted(text: str) -> str:
    """Return `text` as a value of an override that Hydra and OmegaConf read as exactly this text."""
    text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)  # for OmegaConf: no reference
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)  # for Hydra: no end of the text
    text = re.sub(r"(\\+)\Z", lambda match: match[1] * 2, text)
    return f"'{text}'"


def for_shell(name: str, text: str) -> str:
    """Return an argument of a command line, quoted for the shell, that sets a setting to exactly this text."""
    plain = f"{name}={text}"
    try:
        is_read_as_text = value_of(_read_as_text(plain, is_sweep=False)) == (name, text)
    except (HydraException, OmegaConfBaseException):
        is_read_as_text = False
    return shlex.quote(plain if is_read_as_text else f"{name}={quoted(text)}")


def value_of(override: str) -> tuple[str, Any]:
    """Return the name and the value of an override that `checked_overrides` has returned."""
    parsed = OverridesParser.create().parse_override(override)
    value = OmegaConf.to_container(OmegaConf.create({"value": parsed.value()}), resolve=True)
    assert isinstance(value, dict)
    return parsed.key_or_group, value["value"]


def as_entered(override: str) -> str:
    """Return an override without the ``++`` and the quotes that `checked_overrides` adds."""
    plain = override.removeprefix("++")
    plain = plain if plain.startswith(tuple(f"{name}." for name in UNIONS)) else override
    name, _, value = plain.partition("=")
    if value.startswith("'"):
        try:
            unquoted = f"{name}={value_of(plain)[1]}"
        except (HydraException, OmegaConfBaseException):  # several values, or a reference
            return plain
        if _read_as_text(unquoted, is_sweep=False) == plain:
            return unquoted
    return plain


def with_own_options(overrides: Sequence[str]) -> list[str]:
    """Return the overrides and one by which Hydra finds the options in the folder ``conf`` of the working folder.

    Options of the package come first where both have one of the same name.
    """
    folder = own_conf_dir()
    if folder is None or any(text.lstrip("+").startswith("hydra.searchpath=") for text in overrides):
        return list(overrides)
    return [*overrides, f"hydra.searchpath=[{quoted(f'file://{folder}')}]"]


def _read_as_text(override: str, *, is_sweep: bool) -> str:
    """Return an override with its value quoted if the setting is text and Hydra would read something else."""
    match = re.fullmatch(r"(\+{0,2})([\w./@]+)=(.*)", override, re.DOTALL)
    if match is None:
        return override
    prefix, name, value = match.groups()
    values = value[1:-1] if _is_text_list(name) and re.fullmatch(rf"\[{BARE}\]", value) else None
    if values is not None:
        return f"{prefix}{name}=[{','.join(_quoted_number(each) for each in values.split(','))}]"
    if not _is_text(name):
        return override
    is_parsed = _is_parsed(value)
    if is_sweep:
        if is_parsed and set(re.sub(QUOTED, "", value)) & set("[({"):
            return override  # a function such as choice(a,b), or lists
        return f"{prefix}{name}={','.join(_quoted_unless_read_as_text(each) for each in re.findall(ELEMENT, value))}"
    if is_parsed and "," in value:
        return override  # several values
    return f"{prefix}{name}={_quoted_unless_read_as_text(value)}"


def _quoted_unless_read_as_text(value: str) -> str:
    """Return a value, quoted if Hydra could not read it or would read something else than text."""
    if _is_parsed(value):
        return _quoted_number(value)
    # What begins with a quote, or contains a reference, was meant as more than its characters.
    return value if "${" in value or value[:1] in ("'", '"') else quoted(value)


def _quoted_number(value: str) -> str:
    """Return a value, quoted if Hydra would read it as a number or as true or false."""
    if not _is_parsed(value):
        return value
    parsed = OverridesParser.create().parse_override(f"name={value}").value()
    is_number = isinstance(parsed, bool | int | float) and "(" not in value
    return quoted(value.strip()) if is_number else value


def _is_parsed(value: str) -> bool:
    """Return whether Hydra's grammar accepts a value."""
    try:
        OverridesParser.create().parse_override(f"name={value}").value()
    except HydraException:
        return False
    return True


def _check_references(override: Override) -> None:
    """Raise an error of OmegaConf if the value contains ``${`` that does not begin a reference."""
    if not override.is_sweep_override() and not override.is_delete():
        OmegaConf.create({"value": override.value()})


def _advice(text: str) -> str:
    """Return what to do about an override that cannot be parsed."""
    name, equals, value = text.partition("=")
    plain = name.lstrip("+")
    if equals and (_is_text(plain) or plain.startswith("model.arguments.")):
        return f"Type {for_shell(name, value)} for this text."
    return "`pcace run --help` shows the settings."


def _types_of(name: str) -> list[Any]:
    """Return the types that a setting may have; none if there is no such setting."""
    found: list[Any] = [Settings]
    for part in name.split("."):
        hints = [get_type_hints(each) for each in found if is_dataclass(each)]
        found = [each for types_ in hints if part in types_ for each in _members(types_[part])]
    return found


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _is_text(name: str) -> bool:
    found = _types_of(name)
    return name in HYDRA_TEXTS or (str in found and not {bool, int, float} & set(found))


def _is_text_list(name: str) -> bool:
    is_list = any(get_origin(kind) is tuple and get_args(kind)[0] is str for kind in _types_of(name))
    return is_list or name == LAYERS


def _is_group(name: str) -> bool:
    return (conf_dir() / name).is_dir()


def _missing_options(override: Override) -> Iterable[str]:
    """Yield a message for each option that the config group does not have."""
    group = override.key_or_group
    if group == "hydra/launcher":
        yield from _missing_launcher(str(override.value()))
        return
    if not _is_group(group) or group.startswith("hydra") or override.is_delete():
        return
    known, typed = options(group), str(override.input_line).partition("=")[2]
    value = override.value()
    if isinstance(value, Glob):  # score=glob(p*)
        if not value.filter(known):
            yield f"{group} must be one of {listed(known, 20)}; got {typed}, which none of them matches."
        return
    if override.is_sweep_override() and not override.is_discrete_sweep():
        yield f"{group} must be one of {listed(known, 20)}; got {typed}."
        return
    chosen = value if isinstance(value, list) else [value]  # experiment=[pca_sizes,original_vgg16]
    for option in override.sweep_string_iterator() if override.is_sweep_override() else chosen:
        if option is None:
            yield f"{group} must be one of {listed(known, 20)}; got null."
        elif str(option) not in known:
            hint = f" Any torchvision model works: model=torchvision model.name={option}." if group == "model" else ""
            yield f"{group} must be one of {listed(known, 20)}; got '{option}'.{hint}"


def _missing_launcher(launcher: str) -> Iterable[str]:
    """Yield a message if the launcher does not exist, or if its package is not installed."""
    known = ["basic", *options("hydra/launcher")]
    package = launcher.partition("_")[0]
    if launcher not in known:
        yield f"hydra/launcher must be one of {listed(known)}; got '{launcher}'."
    elif launcher != "basic" and find_spec(f"hydra_plugins.hydra_{package}_launcher") is None:
        extra = "slurm" if package == "submitit" else package
        then = ", then pip install --no-deps hydra-ray-launcher" if package == "ray" else ""
        yield (
            f"hydra/launcher={launcher} must have its package installed; got none. "
            f"Install it: pip install 'pcace[{extra}]'{then}."
        )


def _is_unknown_setting(override: Override) -> bool:
    """Return whether an override without prefix names a setting that `Settings` lacks, or that depends on a choice.

    The settings below `data`, `target`, `score` and `engine` depend on the class that the group is validated against.
    """
    key = override.key_or_group
    if override.is_add() or override.is_force_add() or override.is_delete():
        return False
    if key.startswith(("hydra.", "hydra/")) or _is_group(key.partition("@")[0]):
        return False
    schema: Any = Settings
    for part in key.split("."):
        if not is_dataclass(schema):
            # In a union, pydantic checks the setting against the chosen member. The names in a mapping
            # (model.arguments) are free, so Hydra's own check is the right one.
            return key.partition(".")[0] in UNIONS
        types_ = get_type_hints(schema)
        if part not in types_:
            return True
        schema = types_[part]
    return False
