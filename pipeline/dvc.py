"""``python -m pipeline.dvc STAGE``: the commands in ``dvc.yaml``, one stage a process, over the same store as all runs.

``compose`` owns ``params.yaml`` and generates ``dvc.yaml``; each of the stages puts the files of its artifact below
``outputs/dvc``, where DVC tracks them. This module does not import DVC.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pipeline.artifacts import Ranking
from pipeline.command_line import command
from pipeline.config import CONFIG_NAME, compose_settings
from pipeline.digests import digest_bytes, digest_file
from pipeline.errors import SettingsError
from pipeline.files import write_whole
from pipeline.resources import conf_dir
from pipeline.settings import Settings, settings_from
from pipeline.stages import ORDER, load_stage

if TYPE_CHECKING:
    from pipeline.observer import Observer

PARAMS, DVC_YAML = Path("params.yaml"), Path("dvc.yaml")
FOLDER = Path("outputs/dvc")
COMPOSED_FROM = "conf_digest"
HEADER = "# Composed from conf/ by `python -m pipeline.dvc compose`; edit it, or `dvc exp run -S layer=conv2`.\n"
# DVC's queue runs in copies of the checkout below this folder; what all runs share lies in the checkout itself.
COPIES = Path(".dvc/tmp/exps")


def conf_digest() -> str:
    """Return the digest of all files below ``conf/``: whether `PARAMS` was composed from these."""
    paths = sorted(conf_dir().rglob("*.yaml"))
    return digest_bytes("".join(f"{path.relative_to(conf_dir())} {digest_file(path)}\n" for path in paths).encode())


def compose_params() -> None:
    """Write ``params.yaml`` anew where ``conf/`` has changed since; keep what was edited, or set by ``-S``.

    ``dvc exp run`` composes the file itself, overrides and all, and knows nothing of the digest: a file without one is
    fresh. ``dvc repro`` composes nothing: a file with another digest is out of date.
    """
    params: Any = OmegaConf.load(PARAMS) if PARAMS.exists() else None
    if params is None or params.get(COMPOSED_FROM, conf_digest()) != conf_digest():
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
            params = compose(CONFIG_NAME)
    values = OmegaConf.to_container(params, resolve=True)
    assert isinstance(values, dict)
    values.pop("paths", None)  # where things lie is this machine's, and read from conf/ when it is needed
    text = OmegaConf.to_yaml(OmegaConf.create({**values, COMPOSED_FROM: conf_digest()}))
    PARAMS.write_text(HEADER + text, encoding="utf-8")


def generate_dvc_yaml() -> None:
    """Write ``dvc.yaml`` anew if the stages, what they read or what they import have changed."""
    from pipeline.dvc_file import dvc_yaml

    text = dvc_yaml(compose_settings([]))
    if not DVC_YAML.exists() or DVC_YAML.read_text(encoding="utf-8") != text:
        write_whole(DVC_YAML, text)


def load_params() -> Settings:
    """Return the settings in ``params.yaml``, their outputs in the checkout even where a copy of it runs.

    Raises
    ------
    SettingsError
        If the file is not there or something in it cannot be; one line for each fault.
    """
    if not PARAMS.exists():
        raise SettingsError(f"{PARAMS} must exist; got none in {Path.cwd()}. Run `dvc repro` from the checkout.")
    values: Any = OmegaConf.to_container(OmegaConf.load(PARAMS), resolve=True)
    values.pop(COMPOSED_FROM, None)
    outputs = OmegaConf.load(conf_dir() / f"{CONFIG_NAME}.yaml").paths.outputs
    return settings_from({**values, "paths": {"outputs": str(checkout() / outputs)}})


def checkout() -> Path:
    """Return the checkout that the working folder is, or is DVC's copy of."""
    copies = f"/{COPIES.as_posix()}/"
    return Path(Path.cwd().as_posix().partition(copies)[0])


def run_stage(name: str) -> None:
    """Run one stage and put its files into its own folder; the last stage runs and logs everything."""
    from pipeline.console import ConsoleObserver
    from pipeline.resolve import resolve
    from pipeline.runner import Execution, run, store_of

    settings = load_params()
    if name == ORDER[-1]:
        run(settings, FOLDER / "run", [ConsoleObserver(), *_trackers(settings)])
        return
    settings = resolve(settings)
    with store_of(settings, [ConsoleObserver()]) as store:
        execution = Execution(settings, store)
        made = execution.obtain(load_stage(name)).artifact
        _publish(execution.artifacts.folders[type(made)], FOLDER / name)
    if isinstance(made, Ranking):
        write_whole(FOLDER / "metrics.json", json.dumps(made.summary(), indent=1) + "\n")


def _publish(source: Path, target: Path) -> None:
    """Put an artifact's files where DVC looks for them: links, not copies, where the disk allows it."""
    from pipeline.store import DESCRIPTION

    shutil.rmtree(target, ignore_errors=True)

    def link_or_copy(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copyfile(one, other)

    # Not the description: its time of day would make equal results look changed.
    ignored = shutil.ignore_patterns(DESCRIPTION)
    shutil.copytree(source, target, copy_function=link_or_copy, ignore=ignored)


def _trackers(settings: Settings) -> list[Observer]:
    if not settings.tracking.enabled:
        return []
    from pipeline.tracking.mlflow import MlflowTracker

    return [MlflowTracker({"dvc": os.environ.get("DVC_EXP_NAME", "repro")})]


@command
def main() -> None:
    """Run what ``dvc.yaml`` asks for; exit with 1 where it cannot be done."""
    steps = ("compose", *ORDER)
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        raise SettingsError(f"STAGE must be one of {', '.join(steps)}; got {' '.join(sys.argv[1:]) or 'nothing'}.")
    if sys.argv[1] == "compose":
        compose_params()
        generate_dvc_yaml()
    else:
        FOLDER.mkdir(parents=True, exist_ok=True)
        run_stage(sys.argv[1])


if __name__ == "__main__":
    main()
