"""The command ``pcace``: one program with subcommands, of which only the one that is asked for is imported.

``python -m pipeline`` accepts the same subcommands. Both run the pipeline if there is none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pipeline.imports import import_for_command


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes
    ----------
    module : str
        Module whose function `main` runs it with the arguments in ``sys.argv``.
    about : str
        What it does, in a few words.
    """

    module: str
    about: str


COMMANDS: Mapping[str, Command] = {
    "run": Command("pipeline.__main__", "rank the channels of a layer (pcace run --help lists the settings)"),
    "layers": Command("pipeline.layers", "list the layers of a network that can be ranked"),
    "plan": Command("pipeline.plan", "print what a run would take: time, memory, disk, and what is in the store"),
    "compare": Command("pipeline.compare", "compare the rankings of logged runs"),
    "ui": Command("pipeline.ui", "open MLflow with the runs on this machine"),
    "store": Command("pipeline.store.__main__", "list, verify and remove stored results"),
    "reproduce": Command("pipeline.reproduce", "repeat a logged run and compare the two rankings"),
    "export": Command("pipeline.export", "write the report of a run or a sweep into a folder for a web server"),
    "init": Command("pipeline.starter", "write a folder with a network, images and settings to start from"),
    "schema": Command("pipeline.schema", "print the JSON schema of settings, with which editors complete YAML files"),
    "env": Command("pipeline.env", "print the versions and the machine, for a bug report"),
    "completion": Command("pipeline.completion", "print a script that completes commands and settings in bash or zsh"),
}


def usage() -> str:
    """Return the help of the command ``pcace``."""
    lines = "\n".join(f"  {name:<12}{command.about}" for name, command in COMMANDS.items())
    return (
        "PCACE: which channels of a layer matter for a class, and how reliable is their ranking?\n\n"
        "Usage: pcace COMMAND [ARGUMENT ...]\n\n"
        f"{lines}\n\n"
        "pcace COMMAND --help describes a command. Without a command, pcace runs the pipeline: pcace layer=conv2.\n"
        "pcace --version prints the version.\n"
        "In Python: import pcace; help(pcace.rank)."
    )


def main() -> None:
    """Run the command that the first argument names, or the pipeline."""
    if sys.argv[1:2] in (["--help"], ["-h"], ["help"]):
        print(usage())
        return
    if sys.argv[1:2] == ["--version"]:
        from pipeline import __version__  # imported here, because reading it takes as long as printing the help

        print(f"pcace {__version__}")
        return
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first and first not in COMMANDS and not first.startswith("-") and "=" not in first:
        near = get_close_matches(first, COMMANDS, n=1)
        hint = f"Did you mean {near[0]}?" if near else "A setting has the form setting=value."
        print(f"error: the command must be one of {', '.join(COMMANDS)}; got {first}. {hint}", file=sys.stderr)
        sys.exit(1)
    if not dispatched():
        run("run", sys.argv[1:])


def dispatched() -> bool:
    """Run the subcommand that the first argument names, and return whether there is one."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        return False
    run(name, sys.argv[2:])
    return True


def run(name: str, arguments: list[str]) -> None:
    """Run a subcommand with arguments."""
    sys.argv[:] = [Path(sys.argv[0]).name, *arguments]
    import_for_command(COMMANDS[name].module)
    sys.modules[COMMANDS[name].module].main()
