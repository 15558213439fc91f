"""The content of ``dvc.yaml``, generated from the stages: the settings that they read and the modules that they import.

``python -m pipeline.dvc compose`` writes the file if it is outdated; a test in tests/test_dvc.py fails until it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import grimp
from omegaconf import OmegaConf

from pipeline.settings import UNIONS, Settings
from pipeline.stages import load_stages
from pipeline.stages.stage import Stage

HEADER = """\
# The pipeline for DVC: `dvc repro`, `dvc exp run -S layer=conv2`, or for several layers
# `dvc exp run --queue -S 'layer=conv1,conv2,conv3'`.
# `python -m pipeline.dvc compose` generates this file from the stages: do not edit it.
# `compose` writes params.yaml. `identify` runs every time: it writes the key of each artifact, which changes with the
# images, the weights and the code outside of the checkout. The other stages put their artifacts below outputs/dvc. If
# DVC runs a stage again whose artifact is still in the store, the stage takes about a second.
"""
OUTPUTS = "outputs/dvc"
SHIPPED_WEIGHTS = "data/digits_cnn.safetensors"
TRACKER = "pipeline.tracking.mlflow"
# Modules that run every stage.
FRAMEWORK = (
    "pipeline.dvc", "pipeline.runner", "pipeline.whole_network", "pipeline.network_tables", "pipeline.network_budget",
    "pipeline.resolve", "pipeline.engine", "pipeline.store",
)  # fmt: skip
# Settings that do not change a result: where files are, where runs are logged, what computes, how much memory is used.
NO_RESULT = ("paths.", "tracking.", "engine.", "reduce.memory_mib", "network.")
# The name and the index of a class are derived from one another, with the class names of the network, which the
# settings in `CLASS_NAMES` determine.
CLASS = ("class_name", "target_class")
CLASS_NAMES = (
    "model.name", "model.factory", "model.arguments", "model.weights", "model.checkpoint", "model.class_names",
    "model.input_size",
)  # fmt: skip


def dvc_yaml(settings: Settings) -> str:
    """Return the text of ``dvc.yaml``.

    Parameters
    ----------
    settings : Settings
        The default settings, from which the stages select what they read.
    """
    graph = grimp.build_graph("pipeline", exclude_type_checking_imports=True, cache_dir=None)
    stages = load_stages()
    makers = {stage.artifact: stage.name for stage in stages}
    entries: dict[str, Any] = {
        "compose": {
            "cmd": "python -m pipeline.dvc compose",
            "deps": ["conf"],
            "outs": [{"params.yaml": {"cache": False, "persist": True}}],
        },
        "identify": {
            "cmd": "python -m pipeline.dvc identify",
            "deps": ["params.yaml"],
            "outs": [_key_of(stage) for stage in stages],
            "always_changed": True,
        },
    }
    for stage in stages:
        is_last = stage is stages[-1]
        upstream = [f"{OUTPUTS}/{makers[artifact]}" for artifact in stage.upstream.values()]
        entries[stage.name] = {
            "cmd": f"python -m pipeline.dvc {stage.name}",
            "deps": [_key_of(stage), *upstream, *code_of(stage, graph, is_last=is_last)],
            "params": [*settings_of(stage, settings), *(["tracking"] if is_last else [])],
            "outs": [f"{OUTPUTS}/run" if is_last else f"{OUTPUTS}/{stage.name}"],
        }
    entries["rank"]["metrics"] = [f"{OUTPUTS}/metrics.json"]
    plot = {f"{OUTPUTS}/rank/ranking.csv": {"title": "score by rank", "x": "rank", "y": "score"}}
    return HEADER + OmegaConf.to_yaml(OmegaConf.create({"stages": entries, "plots": [plot]}))


def _key_of(stage: Stage[Any, Any]) -> str:
    """Return the path of the file with the key of a stage's artifact."""
    return f"{OUTPUTS}/keys/{stage.name}.json"


def code_of(stage: Stage[Any, Any], graph: grimp.ImportGraph, *, is_last: bool = False) -> list[str]:
    """Return the code that the result of a stage depends on, as paths of files and folders.

    It consists of the modules that the stage imports, directly or through others, and of the modules that run every
    stage. A package is listed as a folder.

    Parameters
    ----------
    stage : Stage
        The stage.
    graph : grimp.ImportGraph
        The imports of `pipeline`.
    is_last : bool
        Whether the stage is the last one, whose command also fills the folder of the run and logs the run.
    """
    module = f"pipeline.stages.{stage.name}"
    imported = {module, "pipeline", *graph.find_upstream_modules(module), *FRAMEWORK}
    if is_last:
        imported |= {"pipeline.run_folder", TRACKER, *graph.find_upstream_modules(TRACKER)}
    paths = sorted({_path(name) for name in imported})
    return [*([SHIPPED_WEIGHTS] if "pipeline.networks.load" in imported else []), *paths]


def _path(module: str) -> str:
    """Return the path that is listed for a module: its file if it is a stage or at the top level, else its package."""
    package, _, rest = module.partition(".")
    first, _, below = rest.partition(".")
    if first == "stages" and below:
        return f"pipeline/stages/{below}.py"
    folder = Path(__file__).parent / first
    if not first or first == "stages":
        return f"{package}/{first + '/' if first else ''}__init__.py"
    return f"pipeline/{first}" if folder.is_dir() else f"pipeline/{first}.py"


def settings_of(stage: Stage[Any, Any], settings: Settings) -> list[str]:
    """Return the names of the settings that a stage reads, in the order of the settings classes.

    The names are dotted, such as ``model.name``. If a stage reads a group as a whole, the name of the group is
    returned. The groups whose settings depend on a choice (data, score, target) are always listed as a whole.

    Parameters
    ----------
    stage : Stage
        The stage. Its function `select` is called with an object that records what it reads of the settings.
    settings : Settings
        The default settings.
    """
    found: set[str] = set()
    reads = stage.select(_Recorder(settings, "", found))  # type: ignore[arg-type]
    found |= set(_whole_groups(reads))
    if found & set(CLASS):
        found |= {*CLASS, *(() if stage.upstream else CLASS_NAMES)}
    found = {name.partition(".")[0] if name.partition(".")[0] in UNIONS else name for name in found}
    order = [name for name, _ in _leaves(settings)]
    kept = [
        name
        for name in found
        if not name.startswith(NO_RESULT) and not any(name.startswith(f"{other}.") for other in found)
    ]
    return sorted(kept, key=lambda name: next(i for i, leaf in enumerate(order) if f"{leaf}.".startswith(f"{name}.")))


class _Recorder:
    """Proxy of a settings object that records the names of the settings that are read.

    Attributes of groups are proxies as well, and properties are computed from the proxy, so that the settings which
    they read are recorded, too.

    Parameters
    ----------
    settings : object
        A dataclass of settings.
    path : str
        Dotted name of the group; empty for all settings.
    found : set of str
        The names that were read so far; the proxies of one call share it.
    """

    def __init__(self, settings: Any, path: str, found: set[str]) -> None:
        self._settings, self.path, self._found = settings, path, found

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The class of the settings object, so that ``isinstance`` and ``match`` work as without the proxy."""
        return type(self._settings)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(type(self._settings), name, None)
        if isinstance(attribute, property):
            assert attribute.fget is not None
            return attribute.fget(self)
        value = getattr(self._settings, name)
        path = f"{self.path}.{name}" if self.path else name
        if is_dataclass(value):
            return _Recorder(value, path, self._found)
        self._found.add(path)
        return value


def _whole_groups(value: Any) -> Iterator[str]:
    """Yield the names of the groups that a stage has selected as a whole."""
    if type(value) is _Recorder:
        yield value.path
    elif is_dataclass(value):
        for field in fields(value):
            yield from _whole_groups(getattr(value, field.name))


def _leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of every setting that is not a group."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value
