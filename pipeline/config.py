"""The only room that knows Hydra and OmegaConf: from overrides to `Settings`."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import SettingsError, listed
from pipeline.resources import conf_dir
from pipeline.settings import UNIONS, ModelSettings, Settings, TrackingSettings, settings_from

CONFIG_NAME = "config"
N_RANDOMIZATIONS = 8  # at most: none, one, and evenly from there to all modules
# Our launchers' files bear the plugins' own names, as people look for them; Hydra only means to say that it knows both.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
_Schema = TypeVar("_Schema")


def checked_overrides(overrides: Sequence[str], *, is_sweep: bool = False) -> list[str]:
    """Return the overrides as Hydra can take them, so that all that is wrong in them is found in one go.

    A layer may be spelt ``layer4[1].conv2``, which Hydra's grammar does not know. A setting that does not exist is
    passed on with ``++``: Hydra would stop at the first; `settings_from` reports it together with all other faults.
    Several values for one setting are taken where `is_sweep` says that each is to have a run of its own.

    Raises
    ------
    SettingsError
        If an override cannot be read, or a config group has no such option.
    """
    spelled = [
        re.sub(r"(?<=\w)\[(\d+)\]", r".\1", override) if re.match(r"\+{0,2}layer=", override) else override
        for override in overrides
    ]
    faults, checked = [], []
    for text in spelled:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            reason = str(error).splitlines()[0]
            faults.append(f"every argument must have the form setting=value; got {text} ({reason}). Quote the value.")
            continue
        if override.is_sweep_override() and not is_sweep:
            name, _, values = text.partition("=")
            faults.append(f"{name} must be one value; got {values}. For several, a run each: --multirun {text}.")
            continue
        faults += _missing_options(override)
        checked.append(f"++{text}" if _is_unknown_setting(override) else text)
    if faults:
        raise SettingsError("\n".join(faults))
    return checked


def with_absolute_outputs(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with `paths.outputs` absolute: a sweep's jobs may start in another folder, or elsewhere.

    Parameters
    ----------
    overrides : sequence of str
        As `checked_overrides` returns them.
    """
    parser = OverridesParser.create()
    given = [parser.parse_override(text) for text in overrides]
    chosen = [override.value() for override in given if override.key_or_group == "paths.outputs"]
    default = OmegaConf.load(conf_dir() / f"{CONFIG_NAME}.yaml").paths.outputs
    path = str(Path(str(chosen[-1] if chosen else default)).absolute()).replace("'", "\\'")
    others = [text for text, each in zip(overrides, given, strict=True) if each.key_or_group != "paths.outputs"]
    return [*others, f"paths.outputs='{path}'"]


def compose_settings(overrides: Sequence[str]) -> Settings:
    """Return the settings for a list of overrides, without starting a run."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        try:
            config = compose(CONFIG_NAME, overrides=checked_overrides(overrides))
        except HydraException as error:
            raise SettingsError(" ".join(str(error).split())) from error
    return settings_from_config(config)


def settings_from_config(config: DictConfig) -> Settings:
    """Return the settings for a composed config.

    Raises
    ------
    SettingsError
        One line for each fault.
    """
    missing = OmegaConf.missing_keys(config)
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise SettingsError(f"every setting must resolve; {str(error).splitlines()[0]}") from error
    for path in missing:  # left out, so that they are reported as missing beside all other faults
        *parents, name = path.split(".")
        parent: Any = values
        for part in parents:
            parent = parent[part]
        del parent[name]
    assert isinstance(values, dict)
    return settings_from({str(name): value for name, value in values.items()})


def sweep_id() -> str | None:
    """Return what the jobs of the present ``--multirun`` share, None in a single run."""
    hydra = HydraConfig.get()
    return str(hydra.sweep.dir).rsplit("/", 1)[-1] if hydra.mode == RunMode.MULTIRUN else None


def run_dir() -> str:
    """Return the folder that Hydra made for the present run."""
    return str(HydraConfig.get().runtime.output_dir)


def job_overrides() -> list[str]:
    """Return what was typed for the present job, a sweep's choice included."""
    return [as_typed(str(override)) for override in HydraConfig.get().overrides.task]


def as_typed(override: str) -> str:
    """Return an override without the ``++`` that `checked_overrides` puts before the settings of a union's members."""
    plain = override.removeprefix("++")
    return plain if plain.startswith(tuple(f"{name}." for name in UNIONS)) else override


def typed_command() -> str:
    """Return the command that makes the present run again, alone where it is a job of a sweep."""
    return shlex.join(["python", "-m", "pipeline", *job_overrides()])


@dataclass(frozen=True)
class SweepStart:
    """A sweep that has begun: where its jobs leave their files, and where it is logged."""

    folder: Path
    outputs: Path
    tracking: TrackingSettings | None


_started: SweepStart | None = None


def started_sweep() -> SweepStart | None:
    """Return the sweep that this process has started, None where it started none."""
    return _started


class SweepCallback(Callback):
    """Hears from Hydra that a sweep begins: only Hydra knows its folder, and only before the jobs run."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep where the sweep's files will lie."""
        del kwargs
        global _started
        try:
            tracking = _typed(TrackingSettings, config.tracking)
        except ValidationError:
            tracking = None  # every job says so
        _started = SweepStart(
            Path(str(config.hydra.sweep.dir)).absolute(), Path(str(config.paths.outputs)).absolute(), tracking
        )


def register_resolvers() -> None:
    """Teach the configs what depends on the composed model, as a sweep's list.

    ``${convolutions:}``: its convolutions. ``${randomizations:}``: some numbers of modules whose weights are
    randomised, from 0 to all. ``${rankers:}``: all rankers.
    """
    OmegaConf.register_new_resolver("convolutions", _convolutions, replace=True)
    OmegaConf.register_new_resolver("randomizations", _randomizations, replace=True)
    OmegaConf.register_new_resolver("rankers", _rankers, replace=True)


def _convolutions(_root_: DictConfig) -> str:
    from pipeline.networks.load import layout_of

    layers = layout_of(_typed(ModelSettings, _root_.model)).rankable()
    return ",".join(layer.name for layer in layers if layer.type == "Conv2d")


def _randomizations(_root_: DictConfig) -> str:
    from pipeline.networks.load import weighted_modules

    n_modules = len(weighted_modules(_typed(ModelSettings, _root_.model)))
    steps = [round(n_modules * step / (N_RANDOMIZATIONS - 2)) for step in range(N_RANDOMIZATIONS - 1)]
    return ",".join(map(str, sorted({*steps, 1})))


def _rankers() -> str:
    from pipeline.rankers import RANKERS

    return ",".join(RANKERS)


def _typed(schema: type[_Schema], config: DictConfig) -> _Schema:
    """Return a part of the config as the part of `Settings` that it is."""
    return TypeAdapter(schema).validate_json(json.dumps(OmegaConf.to_container(config, resolve=True)))


def options(group: str) -> list[str]:
    """Return the options of a config group, e.g. the names below ``conf/model``."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _is_group(name: str) -> bool:
    return (conf_dir() / name).is_dir()


def _missing_options(override: Override) -> Iterable[str]:
    """Report each option of a config group that has no file."""
    group = override.key_or_group
    if group == "hydra/launcher":
        yield from _missing_launcher(str(override.value()))
        return
    if not _is_group(group) or group.startswith("hydra") or override.is_delete():
        return
    known = options(group)
    value = override.value()
    several = value if isinstance(value, list) else [value]  # experiment=[one,other]
    chosen = override.sweep_string_iterator() if override.is_sweep_override() else several
    for option in chosen:
        if option is None:
            yield f"{group} must be one of {listed(known, 20)}; got null."
        elif str(option) not in known:
            hint = f" Any torchvision model works: model=torchvision model.name={option}." if group == "model" else ""
            yield f"{group} must be one of {listed(known, 20)}; got '{option}'.{hint}"


def _missing_launcher(launcher: str) -> Iterable[str]:
    """Report a launcher that there is not, or whose package is not installed."""
    known = ["basic", *options("hydra/launcher")]
    package = launcher.partition("_")[0]
    if launcher not in known:
        yield f"hydra/launcher must be one of {listed(known)}; got '{launcher}'."
    elif launcher != "basic" and find_spec(f"hydra_plugins.hydra_{package}_launcher") is None:
        extra = "slurm" if package == "submitit" else package
        then = ", then pip install --no-deps hydra-ray-launcher" if package == "ray" else ""
        yield f"hydra/launcher={launcher} must have its package; got none. pip install 'pcace[{extra}]'{then}."


def _is_unknown_setting(override: Override) -> bool:
    """Say whether a plain override names a setting that no schema has, or that some alternatives only have."""
    key = override.key_or_group
    if override.is_add() or override.is_force_add() or override.is_delete():
        return False
    if key.startswith(("hydra.", "hydra/")) or _is_group(key.partition("@")[0]):
        return False
    schema: Any = Settings
    for part in key.split("."):
        if not is_dataclass(schema):
            # Below a union (data.*, target.*, score.*) it depends on the member: pydantic judges. A mapping
            # (model.arguments.*) is free: Hydra judges.
            return key.partition(".")[0] in UNIONS
        types = get_type_hints(schema)
        if part not in types:
            return True
        schema = types[part]
    return False
