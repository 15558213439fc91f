"""From the command line's overrides and the YAML files in ``conf/`` to `Settings`, composed by Hydra.

Hydra is imported here, by `pipeline.overrides`, and by `pipeline.__main__`, `pipeline.sweep_start` and
`pipeline.resume`, which start runs and sweeps; OmegaConf is imported here, by `pipeline.overrides`, by
`pipeline.resume`, and by `pipeline.dvc` and `pipeline.dvc_file`, which write DVC's YAML files. All other modules work
with `Settings`. Contracts of import-linter in pyproject.toml check this.
"""

from __future__ import annotations

import json
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter

from pipeline.errors import PipelineError, SettingsError
from pipeline.overrides import (
    HYDRA_TEXTS,
    as_entered,
    checked_overrides,
    for_shell,
    quoted,
    value_of,
    with_own_options,
)
from pipeline.resources import conf_dir
from pipeline.settings import AceSettings, ModelSettings, Settings, settings_from
from pipeline.settings.model import model_contradictions

EXTENDED = (
    "activate",
    "network",
    "ablate",
    "visualize",
    "engine",
)  # groups that did not exist, or had fewer settings, at first
CONFIG_NAME = "config"
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException)
N_RANDOMIZATIONS = 8  # maximum number of jobs of the sweep `${randomizations:}`
# The files in conf/hydra/launcher have the same names as the configurations that the plugins of the launchers register,
# because these are the names in Hydra's documentation. Hydra warns that it merges the two.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
_Schema = TypeVar("_Schema")


def with_absolute_outputs(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with `paths.outputs` as an absolute path.

    The jobs of a sweep need it, because a launcher may start them in another working folder or on another machine.

    Parameters
    ----------
    overrides : sequence of str
        Overrides that `checked_overrides` has returned.
    """
    is_outputs = [text.partition("=")[0].lstrip("+") == "paths.outputs" for text in overrides]
    try:
        chosen = [value_of(text)[1] for text in compress(overrides, is_outputs)]
    except OmegaConfBaseException:  # the path refers to other settings, which each job resolves
        return list(overrides)
    path = Path(str(chosen[-1] if chosen else default_outputs())).absolute()
    others = [text for text, is_one in zip(overrides, is_outputs, strict=True) if not is_one]
    return [*others, f"paths.outputs={quoted(str(path))}"]


def check_folders(overrides: Sequence[str]) -> None:
    """Refuse folders whose path contains ``${``, which Hydra would take for a reference to a setting.

    Parameters
    ----------
    overrides : sequence of str
        Overrides that `checked_overrides` has returned.

    Raises
    ------
    SettingsError
        For the working folder, or a folder in which files would be written.
    """
    folders = {"the working folder": str(Path.cwd()), "PCACE_OUTPUTS": os.environ.get("PCACE_OUTPUTS", "")}
    for text in overrides:
        name = text.partition("=")[0].lstrip("+")
        if name in ("paths.outputs", *HYDRA_TEXTS) and r"\${" in text:
            folders[name] = str(value_of(text)[1])
    for name, folder in folders.items():
        if "${" in folder:
            raise SettingsError(
                f"{name} must not contain '${{'; got {folder}, in which Hydra would read a reference to a setting. "
                "Choose another folder."
            )


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """Return the configuration that Hydra composes from ``conf/`` and the overrides, without starting a run.

    Raises
    ------
    SettingsError
        If an override cannot be parsed, or a config group has no such option; one line for each fault.
    """
    checked = with_own_options(checked_overrides(overrides))
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        try:
            return compose(CONFIG_NAME, overrides=checked)
        except COMPOSITION_ERRORS as error:
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


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in a file with the default values of those that did not exist when it was written."""
    return {**values, **{name: {**_default_group(name), **values.get(name, {})} for name in EXTENDED}}


def _default_group(name: str) -> dict[str, Any]:
    loaded: Any = OmegaConf.load(conf_dir() / f"{CONFIG_NAME}.yaml")
    options = {
        group: option for entry in loaded.defaults if OmegaConf.is_dict(entry) for group, option in entry.items()
    }
    values = OmegaConf.to_container(
        OmegaConf.load(conf_dir() / name / f"{options[name]}.yaml") if name in options else loaded[name]
    )
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def settings_from_config(config: DictConfig) -> Settings:
    """Return the settings for a composed configuration.

    Raises
    ------
    SettingsError
        If a setting is unknown, missing or not possible; one line for each fault.
    """
    return checked_settings(values_of(config))


def values_of(config: DictConfig) -> dict[str, Any]:
    """Return a composed configuration as nested dictionaries, without the settings whose values are missing (``???``).

    Raises
    ------
    SettingsError
        If a value refers to something that does not exist.
    """
    try:
        missing = OmegaConf.missing_keys(config)
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raised: BaseException | None = error
        while raised is not None and not isinstance(raised, PipelineError):  # raised by one of the resolvers below
            raised = raised.__cause__ or raised.__context__
        if raised is not None:
            raise raised from error
        raise SettingsError(_unresolved(config, error)) from error
    for path in missing:  # removed, so that `settings_from` reports them together with all other faults
        *parents, name = path.split(".")
        parent: Any = values
        for part in parents:
            parent = parent[part]
        del parent[name]
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def _unresolved(config: DictConfig, error: OmegaConfBaseException) -> str:
    """Return the message for a setting with a reference that cannot be resolved."""
    reason, name = str(error).splitlines()[0], str(error.full_key or "")
    given: Any = OmegaConf.to_container(config, resolve=False)
    for part in name.split("."):
        given = given.get(part) if isinstance(given, dict) else None
    if not isinstance(given, str):
        return f"every setting must resolve; got {name or 'one'} ({reason})."
    return (
        f"{name} must refer to settings that exist; got {given} ({reason}). "
        f"Type {for_shell(name, given)} for this text."
    )


def checked_settings(values: Mapping[str, Any]) -> Settings:
    """Return the settings for plain values as they are composed from ``conf/``.

    Raises
    ------
    SettingsError
        If a setting is unknown, missing or not possible, or is changed and not used; one line for each fault.
    """
    return settings_from(values, _unused_settings(values.get("score")))


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


def sweep_dir() -> Path | None:
    """Return the folder of the current sweep, whose name all of its jobs share, or None in a single run."""
    hydra = HydraConfig.get()
    return Path(str(hydra.sweep.dir)) if hydra.mode == RunMode.MULTIRUN else None


def run_dir() -> str:
    """Return the folder that Hydra has created for the current run."""
    return str(HydraConfig.get().runtime.output_dir)


def job_overrides() -> list[str]:
    """Return the overrides of the current job as the user entered them, with the job's own values in a sweep."""
    # Not resolved, because a reference in an override is resolved in the setting, and an escaped one is none.
    given = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(given, list)
    return [as_entered(str(override)) for override in given]


def rerun_command(layer: str | None = None) -> str:
    """Return the command that repeats the current run. For a job of a sweep, it repeats this job only.

    Parameters
    ----------
    layer : str, optional
        One of the layers of the run, which the command ranks alone.
    """
    overrides = job_overrides()
    if layer is not None:
        overrides = [*(each for each in overrides if not each.startswith("layer=")), f"layer={layer}"]
    return shlex.join(["pcace", "run", *overrides])


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
    from pipeline.networks.known import layout_of

    settings = _model(_root_)
    names = [layer.name for layer in layout_of(settings).rankable() if layer.is_convolution]
    if not names:
        raise SettingsError(
            f"layer must select a layer that can be ranked; got ${{convolutions:}}, but {settings.label} has no "
            "convolution that can be ranked. "
            "Set layer=all, or a list of the names that `pcace layers` prints."
        )
    return ",".join(names)


def _randomizations(_root_: DictConfig) -> str:
    from pipeline.networks.load import weighted_modules

    n_modules = len(weighted_modules(_model(_root_)))
    steps = [round(n_modules * step / (N_RANDOMIZATIONS - 2)) for step in range(N_RANDOMIZATIONS - 1)]
    return ",".join(map(str, sorted({*steps, 1})))


def _rankers() -> str:
    from pipeline.rankers import RANKERS

    return ",".join(RANKERS)


def _model(root: DictConfig) -> ModelSettings:
    """Return the settings of the model, without faults."""
    settings = validated(ModelSettings, root.model)
    if faults := model_contradictions(settings):
        raise SettingsError("\n".join(faults))
    return settings


def validated(schema: type[_Schema], config: DictConfig) -> _Schema:
    """Return a group of the configuration as an instance of its settings class `schema`.

    Raises
    ------
    pydantic.ValidationError
        If a value is not valid.
    """
    return TypeAdapter(schema).validate_json(json.dumps(OmegaConf.to_container(config, resolve=True)))
