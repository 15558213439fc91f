"""``python -m pipeline.dvc STAGE``: the commands that ``dvc.yaml`` runs, one stage per process.

``compose`` writes ``params.yaml``, ``dvc.yaml`` and the JSON schemas of the settings. ``identify`` writes the keys of
all artifacts, which show DVC what has changed outside of the checkout. Every other stage takes its artifact from the
artifact store, which it shares with all other runs, or computes it, and puts the artifact's files below
``outputs/dvc``, where DVC tracks them. This module does not import DVC.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from pipeline.artifacts import ImageSet, NetworkRanking, Ranking
from pipeline.artifacts.base import own_files
from pipeline.command_line import command
from pipeline.config import compose_config, compose_settings, default_outputs
from pipeline.digests import digest_bytes, digest_file
from pipeline.errors import SettingsError
from pipeline.files import write_whole
from pipeline.imports import import_for_command
from pipeline.resources import conf_dir
from pipeline.run_folder import layer_folder
from pipeline.settings import Settings, settings_from
from pipeline.stages import ORDER, load_stage

if TYPE_CHECKING:
    from pipeline.observer import Observer
    from pipeline.stages.stage import Stage

PARAMS, DVC_YAML = Path("params.yaml"), Path("dvc.yaml")
SCHEMAS = Path(".vscode/schemas")
FOLDER = Path("outputs/dvc")
KEYS = FOLDER / "keys"
CONF_DIGEST = "conf_digest"  # entry of params.yaml
HEADER = "# Composed from conf/ by `python -m pipeline.dvc compose`; edit it, or `dvc exp run -S layer=conv2`.\n"
# DVC runs queued experiments in copies of the checkout below this folder. The outputs are kept in the checkout itself,
# so that all experiments share the store.
COPIES = Path(".dvc/tmp/exps")


def conf_digest() -> str:
    """Return the digest of all files below ``conf/``, by which an outdated ``params.yaml`` is recognised."""
    paths = sorted(conf_dir().rglob("*.yaml"))
    return digest_bytes("".join(f"{path.relative_to(conf_dir())} {digest_file(path)}\n" for path in paths).encode())


def compose_params() -> None:
    """Write ``params.yaml``: compose it again if ``conf/`` has changed; otherwise keep the values that were edited.

    ``dvc exp run`` composes the file itself, with the overrides of ``-S`` and without the digest, so a file without
    digest is up to date. ``dvc repro`` does not compose it, so a file with another digest is outdated.
    """
    params: Any = OmegaConf.load(PARAMS) if PARAMS.exists() else None
    if params is None or params.get(CONF_DIGEST, conf_digest()) != conf_digest():
        params = compose_config()
    values = OmegaConf.to_container(params, resolve=True)
    assert isinstance(values, dict)
    values.pop("paths", None)  # paths depend on the machine; `load_params` takes them from conf/
    text = OmegaConf.to_yaml(OmegaConf.create({**values, CONF_DIGEST: conf_digest()}))
    PARAMS.write_text(HEADER + text, encoding="utf-8")


def generate_dvc_yaml() -> None:
    """Write ``dvc.yaml`` if the stages, the settings that they read, or the modules that they import have changed."""
    import_for_command("pipeline.dvc_file")
    from pipeline.dvc_file import dvc_yaml

    text = dvc_yaml(compose_settings())
    if not DVC_YAML.exists() or DVC_YAML.read_text(encoding="utf-8") != text:
        write_whole(DVC_YAML, text)


def generate_schemas() -> None:
    """Write the JSON schemas that VS Code uses for the files in ``conf/``, if the settings have changed."""
    from pipeline.schema import write_schemas

    if SCHEMAS.parent.is_dir():
        write_schemas(SCHEMAS)


def load_params() -> Settings:
    """Return the settings in ``params.yaml``; their outputs are in the checkout, even if a copy of it runs.

    Raises
    ------
    SettingsError
        If the file does not exist, or a setting in it is unknown, missing or not possible; one line for each fault.
    """
    if not PARAMS.exists():
        raise SettingsError(f"{PARAMS} must exist; got none in {Path.cwd()}. Run `dvc repro` from the checkout.")
    values: Any = OmegaConf.to_container(OmegaConf.load(PARAMS), resolve=True)
    values.pop(CONF_DIGEST, None)
    return settings_from({**values, "paths": {"outputs": str(checkout() / default_outputs())}})


def checkout() -> Path:
    """Return the folder of the checkout: the working folder, or the one that DVC has copied to the working folder."""
    copies = f"/{COPIES.as_posix()}/"
    return Path(Path.cwd().as_posix().partition(copies)[0])


def write_keys() -> None:
    """Write the key of every stage's artifact to a file of its own, on which DVC makes the stage depend.

    A key contains the digests of the images, the network's weights and the code of the user, wherever they are.
    """
    import_for_command("pipeline.runner")
    from pipeline.networks.remembered import remembered
    from pipeline.resolve import resolve
    from pipeline.runner import plan
    from pipeline.whole_network import NetworkExecution

    KEYS.mkdir(parents=True, exist_ok=True)
    settings = resolve(load_params())
    with remembered():
        if settings.selects_several:
            keys = NetworkExecution(settings, FOLDER / "run").keys
        else:
            keys = {settings.layer: plan(settings)}
    for name in ORDER:
        described = {layer: {"key": own[name].digest, **own[name].description} for layer, own in keys.items()}
        found = described if settings.selects_several else described[settings.layer]
        write_whole(KEYS / f"{name}.json", json.dumps(found, indent=1, sort_keys=True) + "\n")


def run_stage(name: str) -> None:
    """Run one stage and put the files of its artifact into its folder below ``outputs/dvc``.

    The last stage runs the whole pipeline instead, whose other artifacts are in the store by then, and logs the run.
    """
    import_for_command("pipeline.runner", "pipeline.console")
    from pipeline.console import ConsoleObserver
    from pipeline.resolve import resolve
    from pipeline.runner import Execution, run, store_of
    from pipeline.whole_network import run_network

    settings = load_params()
    if name == ORDER[-1]:
        if settings.selects_several:
            shutil.rmtree(FOLDER / "run", ignore_errors=True)  # it may contain the folders of other layers
        observers = [ConsoleObserver(), *_trackers(settings)]
        (run_network if settings.selects_several else run)(settings, FOLDER / "run", observers)
        return
    settings, stage = resolve(settings), load_stage(name)
    if settings.selects_several:
        _run_stage_of_layers(settings, stage)
        return
    with store_of(settings, [ConsoleObserver()]) as store:
        artifacts = Execution(settings, store).obtain(stage).artifacts
        _publish(artifacts.folders[stage.artifact], FOLDER / name)
        if stage.artifact is Ranking:
            write_whole(FOLDER / "metrics.json", json.dumps(artifacts[Ranking].summary(), indent=1) + "\n")


def _run_stage_of_layers(settings: Settings, stage: Stage[Any, Any]) -> None:
    """Run one stage for several layers; the folder of the stage contains a folder for each of them.

    The folder of the stage `rank` contains the tables of the network as well.
    """
    from pipeline.console import ConsoleObserver
    from pipeline.networks.remembered import remembered
    from pipeline.runner import store_of
    from pipeline.whole_network import NetworkExecution

    observer, target = ConsoleObserver(), FOLDER / stage.name
    with remembered(), store_of(settings, [observer]) as store:
        execution = NetworkExecution(settings, FOLDER / "run", [observer])
        folders = execution.obtain(stage, store)
        shutil.rmtree(target, ignore_errors=True)
        if stage.artifact is ImageSet:  # the same for all layers
            _publish(next(iter(folders.values())), target)
            return
        for layer, folder in folders.items():
            _publish(folder, layer_folder(target, layer))
        if stage.artifact is Ranking:
            tables = execution.tables({layer: execution.result_of(layer, store) for layer in folders})
            tables.save(target)
            # DVC plots the file of this name: the scores of all channels by rank.
            shutil.copyfile(target / NetworkRanking.CHANNELS_CSV, target / Ranking.CSV)
            write_whole(FOLDER / "metrics.json", json.dumps(tables.metrics(), indent=1) + "\n")


def _publish(source: Path, target: Path) -> None:
    """Put the files of an artifact into the folder `target`, as hard links if the file system allows them."""
    shutil.rmtree(target, ignore_errors=True)
    # The description is left out, because it contains the time: DVC would regard equal results as changed.
    for name in own_files(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, target / name)
        except OSError:
            shutil.copyfile(source / name, target / name)


def _trackers(settings: Settings) -> list[Observer]:
    if not settings.tracking.enabled:
        return []
    import_for_command("pipeline.tracking.network")
    from pipeline.tracking.mlflow import MlflowTracker
    from pipeline.tracking.network import NetworkTracker

    tracker = NetworkTracker if settings.selects_several else MlflowTracker
    return [tracker({"dvc": os.environ.get("DVC_EXP_NAME", "repro")})]


@command
def main() -> None:
    """Run the stage that the command line names; exit with 1 if it fails."""
    steps = ("compose", "identify", *ORDER)
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        raise SettingsError(f"STAGE must be one of {', '.join(steps)}; got {' '.join(sys.argv[1:]) or 'nothing'}.")
    if sys.argv[1] == "compose":
        compose_params()
        generate_dvc_yaml()
        generate_schemas()
    elif sys.argv[1] == "identify":
        write_keys()
    else:
        FOLDER.mkdir(parents=True, exist_ok=True)
        run_stage(sys.argv[1])


if __name__ == "__main__":
    main()
