"""The help of ``pcace run``. It does not import Hydra, which would take a second to print the same text."""

from __future__ import annotations

import string
from pathlib import Path

import yaml

from pipeline.resources import conf_dir, options, own_conf_dir


def usage() -> str:
    """Return the help: the text in ``conf/hydra/help/pcace.yaml``, with the options of the configuration groups."""
    help_file = conf_dir() / "hydra" / "help" / "pcace.yaml"
    parts = yaml.safe_load(help_file.read_text(encoding="utf-8"))
    text = parts["template"]
    for name in ("header", "footer"):
        text = text.replace(f"${{hydra.help.{name}}}", parts[name])
    listed = "\n".join(f"  {name}: {', '.join(options(name))}" for name in groups())
    return string.Template(text).substitute(APP_CONFIG_GROUPS=listed.lstrip())


def groups() -> list[str]:
    """Return the names of the configuration groups; those inside of others with both names, separated by a slash."""
    folders = [folder for folder in (conf_dir(), own_conf_dir()) if folder is not None]
    found: set[Path] = {path.parent.relative_to(folder) for folder in folders for path in folder.rglob("*.yaml")}
    return sorted(path.as_posix() for path in found if path.parts and path.parts[0] != "hydra")
