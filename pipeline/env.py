"""``pcace env``: print what a bug report needs: versions, machine, and where files are."""

from __future__ import annotations

import sys
from pathlib import Path

import pipeline
from pipeline.command_line import command
from pipeline.config import default_outputs
from pipeline.environment import environment, git_state
from pipeline.resources import conf_dir

USAGE = """Usage: pcace env

Prints the versions of pcace, Python and the packages that can change a result, the processor, the GPU, the number of
threads, the device of networks, the settings of PyTorch that decide the last digits, and the folders of the package,
the configuration and the outputs."""


@command
def main() -> None:
    """Print the environment, one line for each property."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(USAGE)
        return
    # Imported here because it takes seconds; `environment` reports the GPU if torch is imported.
    from pipeline.networks.backends import described_backends

    found = {
        **environment(),
        **described_backends(),
        **git_state(),
        "python_executable": sys.executable,
        "package": str(Path(pipeline.__file__).parent),
        "configuration": str(conf_dir()),
        "outputs": str(Path(default_outputs()).absolute()),
    }
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
