"""From the command line's overrides and the YAML files in ``conf/`` to `Settings`, composed by Hydra.

Hydra is imported here and by `pipeline.__main__`, which starts it; OmegaConf is imported here and by `pipeline.dvc` and
`pipeline.dvc_file`, which write DVC's YAML files. All other modules work with `Settings`. Contracts of import-linter in
pyproject.toml check this.
"""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
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
from pipeline.settings import UNIONS, AceSettings, ModelSettings, Settings, TrackingSettings, settings_from

CONFIG_NAME = "config"
N_RANDOMIZATIONS = 8  # maximum number of jobs of the sweep `${randomizations:}`
# The files in conf/hydra/launcher have the same names as the configurations that the plugins of the launchers register,
# because these are the names in Hydra's documentation. Hydra warns that it merges the two.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
_Schema = TypeVar("_Schema")


def checked_overrides(overrides: Sequence[str], *, is_sweep: bool = False) -> list[str]:
    """Return the overrides in a form that Hydra accepts, or report all faults in them together.

    A layer may be spelt ``layer4[1].conv2``, which Hydra's grammar does not accept; it is converted to
    ``layer4.1.conv2``. The prefix ``++`` is added to a setting that does not exist, because Hydra would stop at the
    first of these, whereas `settings_from` reports them together with all other faults.

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
    for text in spelled:
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:
            reason = str(error).splitlines()[0]
            faults.append(f"every argument must have the form setting=value; got {text} ({reason}). Quote the value.")
            continue
        if override.is_sweep_override() and not is_sweep:
            name, _, values = text.partition("=")
            faults.append(f"{name} must be one value; got {values}. For several, run a sweep: --multirun {text}.")
            continue
        faults += _missing_options(override)
        checked.append(f"++{text}" if _is_unknown_setting(override) else text)
    if faults:
        raise SettingsError("\n".join(faults))
    return checked


def with_absolute_outputs(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with `paths.outputs` as an absolute path.

    The jobs of a sweep need it, because a launcher may start them in another working folder or on another machine.

    Parameters
    ----------
    overrides : sequence of str
        Overrides that `checked_overrides` has returned.
    """
    parser = OverridesParser.create()
    given = [parser.parse_override(text) for text in overrides]
    chosen = [override.value() for override in given if override.key_or_group == "paths.outputs"]
    path = str(Path(str(chosen[-1] if chosen else default_outputs())).absolute()).replace("'", "\\'")
    others = [text for text, each in zip(overrides, given, strict=True) if each.key_or_group != "paths.outputs"]
    return [*others, f"paths.outputs='{path}'"]


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """Return the configuration that Hydra composes from ``conf/`` and the overrides, without starting a run.

    Raises
    ------
    SettingsError
        If an override cannot be parsed, or a config group has no such option; one line for each fault.
    """
    checked = checked_overrides(overrides)
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        try:
            return compose(CONFIG_NAME, overrides=checked)
        except HydraException as error:
            raise SettingsError(" ".join(str(error).split())) from error


def compose_settings(overrides: Sequence[str] = ()) -> Settings:
    """Return the settings for the overrides, without starting a run.

    Raises
    ------
    SettingsError
        If a setting is unknown, missing or not possible; one line for each fault.
    """
    return settings_from_config(compose_config(overrides))


def default_outputs() -> str:
    """Return the value of `paths.outputs` if no override changes it."""
    return str(OmegaConf.load(conf_dir() / f"{CONFIG_NAME}.yaml").paths.outputs)


def settings_from_config(config: DictConfig) -> Settings:
    """Return the settings for a composed configuration.

    Raises
    ------
    SettingsError
        If a setting is unknown, missing or not possible; one line for each fault.
    """
    missing = OmegaConf.missing_keys(config)
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise SettingsError(f"every setting must resolve; {str(error).splitlines()[0]}") from error
    for path in missing:  # removed, so that `settings_from` reports them together with all other faults
        *parents, name = path.split(".")
        parent: Any = values
        for part in parents:
            parent = parent[part]
        del parent[name]
    assert isinstance(values, dict)
    return settings_from({str(name): value for name, value in values.items()}, _unused_settings(values.get("score")))


def _unused_settings(score: Any) -> list[str]:
    """Return one line for each setting of the supersmoother that was changed although splines are used."""
    if not isinstance(score, Mapping) or score.get("kind") != "ace" or score.get("smoother") != "spline":
        return []
    defaults = OmegaConf.to_container(OmegaConf.load(conf_dir() / "score" / "ace.yaml"))
    assert isinstance(defaults, dict)
    return [
        f"score.{name} must be left at {json.dumps(defaults[name])} with score.smoother=spline, which does not use it; "
        f"got {json.dumps(score[name])}. Add score.smoother=supersmoother."
        for name in AceSettings.SUPERSMOOTHER_ONLY
        if name in score and score[name] != defaults[name]
    ]


def sweep_id() -> str | None:
    """Return the identifier that all jobs of the current sweep share, or None in a single run."""
    hydra = HydraConfig.get()
    return str(hydra.sweep.dir).rsplit("/", 1)[-1] if hydra.mode == RunMode.MULTIRUN else None


def run_dir() -> str:
    """Return the folder that Hydra has created for the current run."""
    return str(HydraConfig.get().runtime.output_dir)


def job_overrides() -> list[str]:
    """Return the overrides of the current job as the user entered them, with the job's own values in a sweep."""
    return [as_entered(str(override)) for override in HydraConfig.get().overrides.task]


def as_entered(override: str) -> str:
    """Return an override without the ``++`` that `checked_overrides` adds to the settings of a union's members."""
    plain = override.removeprefix("++")
    return plain if plain.startswith(tuple(f"{name}." for name in UNIONS)) else override


def rerun_command() -> str:
    """Return the command that repeats the current run. For a job of a sweep, it repeats this job only."""
    return shlex.join(["python", "-m", "pipeline", *job_overrides()])


@dataclass(frozen=True)
class SweepStart:
    """A sweep that this process has started.

    Attributes
    ----------
    folder : Path
        Folder of the sweep, absolute; the folders of its jobs are below it.
    outputs : Path
        The setting `paths.outputs`, absolute.
    tracking : TrackingSettings or None
        Where the sweep is logged; None if the settings are not valid, which every job reports.
    """

    folder: Path
    outputs: Path
    tracking: TrackingSettings | None


_started: SweepStart | None = None


def started_sweep() -> SweepStart | None:
    """Return the sweep that this process has started, or None for a single run."""
    return _started


class SweepCallback(Callback):
    """Callback of Hydra that stores the folder of a sweep, which Hydra chooses just before the jobs run."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Store the sweep for `started_sweep`."""
        del kwargs
        global _started
        try:
            tracking = _validated(TrackingSettings, config.tracking)
        except ValidationError:
            tracking = None  # every job reports the fault
        _started = SweepStart(
            Path(str(config.hydra.sweep.dir)).absolute(), Path(str(config.paths.outputs)).absolute(), tracking
        )


def register_resolvers() -> None:
    """Register the resolvers that the experiments in ``conf/experiment`` use as lists of values for a sweep.

    - ``${convolutions:}``: the names of all convolutional layers of the composed model;
    - ``${randomizations:}``: numbers of modules with randomised weights: 0, 1, and evenly spaced up to all modules of
      the composed model that have weights;
    - ``${rankers:}``: all rankers.
    """
    OmegaConf.register_new_resolver("convolutions", _convolutions, replace=True)
    OmegaConf.register_new_resolver("randomizations", _randomizations, replace=True)
    OmegaConf.register_new_resolver("rankers", _rankers, replace=True)


def _convolutions(_root_: DictConfig) -> str:
    from pipeline.networks.load import layout_of

    layers = layout_of(_validated(ModelSettings, _root_.model)).rankable()
    return ",".join(layer.name for layer in layers if layer.type == "Conv2d")


def _randomizations(_root_: DictConfig) -> str:
    from pipeline.networks.load import weighted_modules

    n_modules = len(weighted_modules(_validated(ModelSettings, _root_.model)))
    steps = [round(n_modules * step / (N_RANDOMIZATIONS - 2)) for step in range(N_RANDOMIZATIONS - 1)]
    return ",".join(map(str, sorted({*steps, 1})))


def _rankers() -> str:
    from pipeline.rankers import RANKERS

    return ",".join(RANKERS)


def _validated(schema: type[_Schema], config: DictConfig) -> _Schema:
    """Return a group of the configuration as an instance of its settings class `schema`."""
    return TypeAdapter(schema).validate_json(json.dumps(OmegaConf.to_container(config, resolve=True)))


def options(group: str) -> list[str]:
    """Return the options of a config group, for example the names of the files in ``conf/model``."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


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
    known = options(group)
    value = override.value()
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

    The settings below `data`, `target` and `score` depend on the class that the group is validated against.
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
        types = get_type_hints(schema)
        if part not in types:
            return True
        schema = types[part]
    return False
