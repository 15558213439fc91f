"""``pcace completion``: print a script for bash that completes commands, settings and their options."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pipeline.command_line import command
from pipeline.commands import COMMANDS
from pipeline.config import compose_config, values_of
from pipeline.resources import options

USAGE = """Usage: pcace completion

Prints a script that completes the commands of pcace, the names of settings and the options of configuration groups.
In bash:

    eval "$(pcace completion)"

In zsh, run `autoload -U +X bashcompinit && bashcompinit` before. Add the line to ~/.bashrc or ~/.zshrc to keep it."""

GROUPS = ("model", "data", "score", "target", "tracking", "engine", "experiment")
SCRIPT = """_pcace() {{
  local word="${{COMP_LINE:0:COMP_POINT}}"
  word="${{word##* }}"
  local words="{settings}"
  [ "$COMP_CWORD" = 1 ] && words="{commands} $words"
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  case "$word" in *=*) COMPREPLY=("${{COMPREPLY[@]#"${{word%%=*}}="}}") ;; esac
}}
complete -o nospace -F _pcace pcace"""


@command
def main() -> None:
    """Print the script."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(USAGE)
        return
    print(SCRIPT.format(commands=" ".join(f"{name} " for name in COMMANDS), settings=" ".join(sorted(words()))))


def words() -> Iterator[str]:
    """Yield the words that settings begin with: ``layer=``, ``score=pearson``, ``rank.by=``."""
    values = values_of(compose_config())
    for name, value in values.items():
        if isinstance(value, dict):
            yield from (f"{name}.{each}=" for each in value)
        else:
            yield f"{name}="
    for group in GROUPS:
        yield from (f"{group}={option}" for option in options(group))


if __name__ == "__main__":
    main()
